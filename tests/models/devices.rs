//! Devices and precisions, each pair as it goes on this machine.

use trove::encoder::{Device, EmbedOptions, Encoder, Precision};

use super::{TEXTS, cosine, data, load, minilm, options, tiny, vectors};

#[tokio::test]
async fn every_pair_runs_or_says_why_not() {
    let Some(data) = data() else { return };
    let exact = load(&minilm(&data)).unwrap();
    let expected = vectors(&exact, &TEXTS, EmbedOptions::document()).await;
    for device in Device::ALL {
        for precision in Precision::ALL {
            let pair = format!("{} {}", device.as_str(), precision.as_str());
            let encoder = match Encoder::load(&minilm(&data), options(device, precision)) {
                Ok(encoder) => encoder,
                Err(error) => {
                    // OpenVINO is not in every library, bf16 not in every processor, CUDA not on this machine.
                    let explained = match (device, precision) {
                        (Device::Auto, Precision::Auto | Precision::Fp32 | Precision::Int8) => false,
                        (Device::Cpu, Precision::Fp16 | Precision::Bf16) => {
                            error.reason == "UNSUPPORTED_PRECISION"
                        }
                        (Device::Cpu, _) => false,
                        (Device::Cuda, Precision::Bf16 | Precision::Int8) => {
                            error.reason == "UNSUPPORTED_PRECISION"
                        }
                        _ => matches!(error.reason, "UNSUPPORTED_PRECISION" | "DEVICE_UNAVAILABLE"),
                    };
                    assert!(explained, "{pair}: {} {error}", error.reason);
                    println!("{pair}: {error}");
                    continue;
                }
            };
            let info = encoder.info();
            if device == Device::Cpu {
                assert_eq!(info.execution_provider, "CPUExecutionProvider", "{pair}");
            }
            if precision != Precision::Auto {
                assert_eq!(info.precision, precision.as_str(), "{pair}");
            }
            let got = vectors(&encoder, &TEXTS, EmbedOptions::document()).await;
            let least = got.iter().zip(&expected).map(|(a, b)| cosine(a, b)).fold(1.0, f64::min);
            println!("{pair}: {} {}, least cosine {least:.6}", info.execution_provider, info.precision);
            assert!(least > if info.precision == "int8" { 0.997 } else { 0.9995 }, "{pair}: {least}");
        }
    }
}

#[test]
fn a_device_that_is_not_there_is_told_with_a_remedy() {
    let Some(data) = data() else { return };
    let Err(error) = Encoder::load(&minilm(&data), options(Device::Cuda, Precision::Auto)) else {
        println!("a CUDA device is there");
        return;
    };
    assert_eq!(error.reason, "DEVICE_UNAVAILABLE");
    for word in ["cuda", "CUDA", "encoder.device"] {
        assert!(error.message.contains(word), "{error}");
    }
}

#[test]
fn a_ready_made_graph_keeps_its_precision() {
    if data().is_none() {
        return;
    }
    let Err(error) = Encoder::load(&tiny(), options(Device::Cpu, Precision::Int8)) else {
        panic!("a ready-made graph was quantized");
    };
    assert!(error.reason == "UNSUPPORTED_PRECISION" && error.message.contains("safetensors"), "{error}");
}
