//! What people do with folders and files of records: the real program against a real server.

mod common;

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{data_dir, models};
use serde_json::{Value, json};

/// Longest wait for something that must come.
const PATIENCE: Duration = Duration::from_secs(90);

/// A server, a folder of files, and a home of the client.
struct Place {
    child: Child,
    address: String,
    _store: tempfile::TempDir,
    files: tempfile::TempDir,
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Place {
    fn start() -> Option<Self> {
        let models = models()?;
        let store = data_dir(&models);
        let mut child = Command::new(env!("CARGO_BIN_EXE_trove"))
            .args(["serve", "--listen", "127.0.0.1:0", "--log-filter", "warn", "--data-dir"])
            .arg(store.path())
            .env("TROVE__GENERATOR__MODELS", "none")
            .env_remove("TROVE_CONFIG")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("got {line:?}"));
        let files = tempfile::tempdir().unwrap();
        std::fs::create_dir(files.path().join("docs")).unwrap();
        Some(Self { child, address: address.to_owned(), _store: store, files })
    }

    fn docs(&self) -> PathBuf {
        self.files.path().join("docs")
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.docs().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trove"));
        command
            .env_remove("TROVE_CONFIG")
            .env("TROVE_SERVER", &self.address)
            .env("XDG_STATE_HOME", self.files.path().join("state"))
            .current_dir(self.files.path())
            .args(args);
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a command that must leave with an exit code, and gives its JSON.
    fn json(&self, code: i32, args: &[&str]) -> Value {
        let output = self.run(&[&["--json"], args].concat());
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{args:?}: {told} {}",
            String::from_utf8_lossy(&output.stdout)
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What a command tells, on both streams.
    fn told(&self, args: &[&str]) -> String {
        let output = self.run(args);
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    fn index(&self, options: &[&str]) -> Value {
        self.json(0, &[&["index", "docs"], options].concat())
    }

    fn ids(&self, filters: &[&str]) -> Vec<String> {
        let filters = filters.iter().flat_map(|filter| ["--filter", filter]);
        let listed = self.json(0, &[&["documents", "list"], filters.collect::<Vec<_>>().as_slice()].concat());
        listed.as_array().unwrap().iter().map(|d| d["id"].as_str().unwrap().to_owned()).collect()
    }

    fn show(&self, id: &str) -> Value {
        self.json(0, &["documents", "show", id])
    }

    fn best(&self, query: &str, mode: &str) -> String {
        let hits = self.json(0, &["search", "--mode", mode, query]);
        hits[0]["passage"]["document_id"].as_str().unwrap_or_default().to_owned()
    }
}

#[test]
fn records_are_read_as_they_are_written_and_filtered_by_what_they_say() {
    let Some(place) = Place::start() else { return };
    place.write(
        "semi.csv",
        "id;title;text;port\n1;Crane;The crane is out of order;Bergen\n2;Lock;It is open;Molde\n",
    );
    place.write("latin.csv", b"id,text,ort\n1,Die F\xe4hre f\xe4hrt nicht,Kappeln\n2,ok,Schleswig\n");
    let wide: Vec<u8> =
        "\u{feff}id,text\r\n5,Die Brücke klemmt\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    place.write("utf16.csv", wide);
    place.write("caps.csv", "ID, Title, Text\nA1, Fog signal, The horn is broken\n");
    place.write(
        "ragged.csv",
        "id,text,remark,port\n1,The mast is bent,urgent,Hull\n2,The sail is torn\n3,Rope,,Oslo,extra\n",
    );
    place.write("shop.csv", "sku;name;price;since;active\n007;Trail Runner;119,90;15.01.2024;true\n008;Road Racer;240,00;3.2.2025;false\n");
    place.write(
        "bom.jsonl",
        "\u{feff}{\"id\":\"a\",\"text\":\"The first record\"}\n{\"id\":\"b\",\"text\":\"second\"}\n",
    );
    place.write(
        "nested.jsonl",
        "{\"id\":\"a\",\"text\":[\"One paragraph.\",\"Another one.\"],\"meta\":{\"author\":{\"name\":\"Ane\"}},\
         \"years\":[2020,2021],\"tags\":[\"a\",\"b\"],\"date\":\"2024-05-06\"}\n",
    );
    place.write(
        "array.json",
        "[\n  {\"id\":\"a\",\"text\":\"Beacon lamp failed\"},\n  {\"id\":\"b\",\"text\":\"replaced\"}\n]",
    );
    place.write(
        "crawl.jsonl",
        "{\"id\":\"a\",\"text\":\"Ferry timetable\",\"path\":\"/timetables/ferry\",\"extension\":\"aspx\"}\n",
    );
    let long = "The mooring guide goes on about ropes and knots. ".repeat(700);
    place.write(
        "dump.jsonl",
        format!("{{\"url\":\"https://example.org/a\",\"content\":\"{long} Splice EX-7.\"}}\n"),
    );
    let url = format!("https://shop.example/find?q={}", "a".repeat(600));
    place.write(
        "urls.jsonl",
        format!(
            "{{\"id\":\"{url}\",\"text\":\"An anchor.\"}}\n{{\"id\":\"{url}b\",\"text\":\"A chain.\"}}\n"
        ),
    );
    place.write("settings.json", "{\"compilerOptions\": {}}");
    let first = place.index(&[]);
    assert_eq!((&first["indexed"], &first["failed"]), (&20.into(), &0.into()), "{first}");
    assert_eq!((&first["skipped"]["json"], &first["read"]["json"]), (&1.into(), &1.into()), "{first}");

    assert_eq!(place.show("docs/semi.csv#1")["title"], "Crane");
    assert_eq!(place.show("docs/latin.csv#1")["text"], "Die Fähre fährt nicht");
    assert_eq!(place.show("docs/utf16.csv#5")["text"], "Die Brücke klemmt");
    assert_eq!(place.show("docs/caps.csv#A1")["title"], "Fog signal");
    assert_eq!(place.show("docs/ragged.csv#3")["metadata"]["column_5"], "extra");
    assert_eq!(place.show("docs/nested.jsonl#a")["text"], "One paragraph.\n\nAnother one.");
    let shoe = place.show("docs/shop.csv#1");
    assert_eq!(shoe["text"], "sku: 007; name: Trail Runner; price: 119,90; since: 15.01.2024; active: true.");
    assert_eq!(
        (&shoe["metadata"]["sku"], &shoe["metadata"]["price"]),
        (&"007".into(), &119.9.into()),
        "{shoe}"
    );
    assert_eq!(place.best("what does the Trail Runner cost?", "hybrid"), "docs/shop.csv#1");
    assert_eq!(place.best("Splice EX-7", "keyword"), "docs/dump.jsonl#1");

    for (filters, wanted) in [
        (&["port=Molde"][..], &["docs/semi.csv#2"][..]),
        (&["price<200"], &["docs/shop.csv#1"]),
        (&["price>=200", "active=false"], &["docs/shop.csv#2"]),
        (&["since>=2025-01-01"], &["docs/shop.csv#2"]),
        (&["since=2024-01-15"], &["docs/shop.csv#1"]),
        (&["date>2024-05-05", "date<=2024-05-06"], &["docs/nested.jsonl#a"]),
        (&["date>2024-05-06"], &[]),
        (&["meta.author.name=Ane"], &["docs/nested.jsonl#a"]),
        (&["years=2021", "tags=b"], &["docs/nested.jsonl#a"]),
        (&["years<2020"], &[]),
        (&["path=/timetables/ferry", "extension=aspx"], &["docs/crawl.jsonl#a"]),
        (&["path=docs/shop.csv", "name!=Road Racer"], &["docs/shop.csv#1"]),
    ] {
        assert_eq!(place.ids(filters), wanted, "{filters:?}");
    }
    let urls: Vec<String> = place.ids(&["path=docs/urls.jsonl"]);
    assert!(urls.len() == 2 && urls.iter().all(|id| id.len() <= 512), "{urls:?}");
    assert_eq!(
        place.show(&urls[0])["metadata"]["id"].as_str().unwrap().len(),
        url.len() + usize::from(place.show(&urls[0])["text"] == "A chain.")
    );

    let again = place.index(&["--delete-missing"]);
    assert_eq!(
        (&again["unchanged"], &again["deleted"], &again["missing"]),
        (&20.into(), &0.into(), &0.into()),
        "{again}"
    );
    // A record that has a path of its own is still one of its file.
    place.write("crawl.jsonl", "");
    assert_eq!(place.index(&["--delete-missing"])["deleted"], 1);

    place.write("../shop/shop.csv", "sku;name;price\n007;Trail Runner;119,90\n");
    let options = ["index", "shop", "--id-field", "SKU", "--text-template", "{Name} costs {price}."];
    assert_eq!(place.json(0, &options)["indexed"], 1);
    assert_eq!(place.show("shop/shop.csv#007")["text"], "Trail Runner costs 119,90.");
    let other = place.json(0, &["index", "shop"]);
    assert_eq!((&other["indexed"], &other["missing"]), (&1.into(), &1.into()), "{other}");
    let wrong = place.json(1, &["index", "shop", "--text-template", "{nme}"]);
    assert!(wrong["failures"][0]["reason"].as_str().unwrap().contains("expected the columns nme"), "{wrong}");
    assert_eq!(place.run(&["index", "docs", "--text-template", "no field"]).status.code(), Some(2));
}

#[test]
fn records_without_ids_stay_the_same_wherever_they_stand() {
    let Some(place) = Place::start() else { return };
    place.write("rows.csv", "title,text\nB,second thing\nB,second thing\nC,third thing\n");
    place.write("lines.jsonl", "{\"text\":\"one\"}\n{\"text\":\"two\"}\n");
    assert_eq!(place.index(&[])["indexed"], 5);
    place.write("rows.csv", "title,text\nA,first thing\nB,second thing\nB,second thing\nC,third thing\n");
    place.write("lines.jsonl", "{\"text\":\"zero\"}\n{\"text\":\"one\"}\n{\"text\":\"two\"}\n");
    let more = place.index(&["--delete-missing"]);
    assert_eq!(
        (&more["indexed"], &more["unchanged"], &more["deleted"]),
        (&2.into(), &5.into(), &0.into()),
        "{more}"
    );
    let same = place.index(&[]);
    assert_eq!((&same["indexed"], &same["unchanged"]), (&0.into(), &7.into()), "{same}");
    // A row that goes takes nothing with it.
    place.write("rows.csv", "title,text\nB,second thing\nB,second thing\nC,third thing\n");
    let less = place.index(&["--delete-missing"]);
    assert_eq!(
        (&less["indexed"], &less["unchanged"], &less["deleted"]),
        (&0.into(), &6.into(), &1.into()),
        "{less}"
    );
}

#[test]
fn a_folder_tells_what_is_gone_what_is_left_out_and_what_failed() {
    let Some(place) = Place::start() else { return };
    let nothing = place.run(&["index", "missing", "--collection", "fresh"]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("missing"));
    assert_eq!(place.json(0, &["collections", "list"]), json!([]));

    place.write("a.md", "# Alpha\n\nThe first note.\n");
    place.write("b.md", "# Beta\n\nThe second note.\n");
    place.write(".gitignore", "private/\n*.bin\n");
    place.write("private/secret.md", "x");
    place.write("data.bin", "x");
    place.write("talk.key", [0, 1]);
    place.write("noext", "A plain text about rigging.");
    place.write(
        "page.md",
        "<!DOCTYPE html><html><body><p>Saved from the web: cod quota rises.</p></body></html>",
    );
    place.write("broken.pdf", "%PDF-1.4 nonsense");
    let names: [&[u8]; 8] = [
        b"a b.txt",
        b"quote'\"s.txt",
        b"line\nbreak\ttab.txt",
        b"100% #1.txt",
        "ship \u{1f6a2}.txt".as_bytes(),
        "caf\u{e9}.txt".as_bytes(),
        "cafe\u{301}.txt".as_bytes(),
        b"-dash.txt",
    ];
    for name in names {
        std::fs::write(place.docs().join(OsStr::from_bytes(name)), "A strange name.\n").unwrap();
    }
    let told = place.told(&["index", "docs", "--verbose"]);
    for part in [
        ".key 1",
        "no extension 1",
        "files of Apple's programs: export them",
        "2 files that .gitignore",
        "docs/private/secret.md: ignored",
        "docs/noext: another kind",
        "failed: docs/broken.pdf: ",
        "files: 12 (",
    ] {
        assert!(told.contains(part), "no {part:?} in {told}");
    }
    assert_eq!(place.ids(&["extension=txt"]).len(), names.len());
    assert!(place.ids(&[]).contains(&"docs/line%0Abreak%09tab.txt".to_owned()));
    assert_eq!(place.show("docs/page.md")["text"], "Saved from the web: cod quota rises.");

    std::fs::rename(place.docs().join("a.md"), place.docs().join("anchor.md")).unwrap();
    std::fs::create_dir(place.docs().join("sub")).unwrap();
    std::fs::rename(place.docs().join("b.md"), place.docs().join("sub/b.md")).unwrap();
    let told = place.told(&["index", "docs"]);
    assert!(
        told.contains("2 stored documents have no file any more; --delete-missing removes them"),
        "{told}"
    );

    let status = place.json(0, &["status"]);
    assert_eq!((&status[0]["documents"], &status[0]["kinds"][".txt"]), (&13.into(), &8.into()), "{status}");
    assert_eq!(status[0]["failures"][0]["id"], "docs/broken.pdf", "{status}");
    assert!(place.told(&["status", "default"]).contains("docs/broken.pdf: INVALID_ARGUMENT BROKEN_DOCUMENT"));
    std::fs::remove_file(place.docs().join("broken.pdf")).unwrap();
    assert_eq!(place.index(&["--delete-missing"])["deleted"], 2);
    let status = place.json(0, &["status"]);
    assert_eq!((&status[0]["failures"], &status[0]["outdated"]), (&json!([]), &json!([])), "{status}");
    assert_eq!(place.index(&["--refresh"])["indexed"], 0);

    // As if an older version had read it all.
    assert!(place.run(&["export", "default", "old.jsonl"]).status.success());
    let old = place.files.path().join("old.jsonl");
    let lines = std::fs::read_to_string(&old).unwrap();
    let version =
        lines.split("\"extraction_version\":").nth(1).unwrap().split(',').next().unwrap().to_owned();
    let now = format!("\"extraction_version\":{version},");
    std::fs::write(&old, lines.replace(&now, "\"extraction_version\":1,")).unwrap();
    place.json(0, &["collections", "delete", "default", "--force"]);
    assert!(place.run(&["import", "old.jsonl"]).status.success());
    let count = place.ids(&[]).len();
    assert_eq!(place.json(0, &["status"])[0]["outdated"].as_array().unwrap().len(), count);
    let told = place.told(&["status", "--outdated"]);
    assert!(told.contains("trove index --refresh") && told.contains("    docs/anchor.md\n"), "{told}");
    assert_eq!(place.index(&[])["unchanged"], count);
    let refreshed = place.index(&["--refresh"]);
    assert_eq!((&refreshed["indexed"], &refreshed["unchanged"]), (&count.into(), &0.into()), "{refreshed}");
    assert_eq!(place.json(0, &["status"])[0]["outdated"], json!([]));
}

#[test]
fn documents_come_from_standard_input_and_are_found_by_names_and_odd_queries() {
    let Some(place) = Place::start() else { return };
    let pipe = |args: &[&str], text: &str| {
        let mut child = place.command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let added = pipe(
        &["documents", "add", "--id", "memo", "--title", "Memo"],
        "The boiler was serviced at -15 degrees.",
    );
    assert!(
        added.status.success() && String::from_utf8_lossy(&added.stdout).contains("memo indexed"),
        "{added:?}"
    );
    let page = ["index", "-", "--id", "page", "--media-type", "text/html"];
    assert!(pipe(&page, "<h1>Locks</h1><p>The lock opens at dawn.</p>").status.success());
    assert_eq!(place.show("page")["title"], "Locks");
    assert_eq!(pipe(&["documents", "add"], "").status.code(), Some(1));
    let hashed = pipe(&["--json", "index", "-"], "Only words.");
    let hashed: Value = serde_json::from_slice(&hashed.stdout).unwrap();
    assert_eq!((hashed["status"].as_str(), hashed["id"].as_str().unwrap().len()), (Some("indexed"), 64));
    assert_eq!(place.run(&["index", "docs", "--id", "x"]).status.code(), Some(2));
    assert_eq!(place.run(&["index", "-", "docs"]).status.code(), Some(2));
    assert_eq!(place.best("-15 degrees", "keyword"), "memo");

    place.write("Invoice 2024-0113 Nordkai.txt", "Amount due for berth and water: 930 euro.\n");
    place.write("Protokoll_Vorstand_2023-11.md", "# Sitzung\n\nAnwesend waren alle.\n");
    place.write("misc.txt", "Nothing of note in here.\n");
    place.index(&[]);
    assert_eq!(place.best("Invoice 2024-0113", "keyword"), "docs/Invoice 2024-0113 Nordkai.txt");
    assert_eq!(place.best("Protokoll Vorstand 2023-11", "hybrid"), "docs/Protokoll_Vorstand_2023-11.md");
}

/// Waits until a condition holds.
fn wait_for(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_watch_follows_the_folder_until_it_is_ended() {
    let Some(place) = Place::start() else { return };
    place.write("a.md", "The first note is about anchors.\n");
    let mut watch = place
        .command(&["index", "docs", "--watch", "--delete-missing"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let ids = || {
        let output = place.run(&["--json", "documents", "list"]);
        let listed: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let ids: Option<Vec<String>> =
            listed.as_array().map(|all| all.iter().map(|d| d["id"].as_str().unwrap().to_owned()).collect());
        ids.unwrap_or_default()
    };
    wait_for("the first pass", || ids() == ["docs/a.md"]);
    // As editors save: a new file takes the old one's name.
    place.write("a.md.tmp", "The first note is about buoys now.\n");
    std::fs::rename(place.docs().join("a.md.tmp"), place.docs().join("a.md")).unwrap();
    wait_for("the change", || place.show("docs/a.md")["text"].as_str().unwrap().contains("buoys"));
    for number in 0..30 {
        place.write(&format!("burst/{number}.md"), format!("Note number {number}.\n"));
    }
    wait_for("the burst", || ids().len() == 31);
    std::fs::rename(place.docs().join("a.md"), place.docs().join("z.md")).unwrap();
    std::fs::remove_dir_all(place.docs().join("burst")).unwrap();
    wait_for("the deletion", || ids() == ["docs/z.md"]);
    let killed = Command::new("kill").args(["-TERM", &watch.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let started = Instant::now();
    let status = loop {
        if let Some(status) = watch.try_wait().unwrap() {
            break status;
        }
        assert!(started.elapsed() < PATIENCE, "it goes on");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(status.code(), Some(0));
    assert!(Path::new(&place.docs()).join("z.md").exists());
}
