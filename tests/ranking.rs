//! What searches are worth on a real set, and what scoring hits again does, over gRPC with the real model.

mod common;

use std::path::Path;
use std::process::Command;

use common::{Server, data_dir, found, ids, models, query, reason, text_document, upsert};
use tonic::Code;
use trove::proto::fusion::Method;
use trove::proto::search_service_client::SearchServiceClient;
use trove::proto::{self, LateInteraction, Rerank, SearchMode, SearchUnit, rerank, search_query};

/// How far from its recorded value a measure may be: processors and precisions differ in the last digits of scores.
const TOLERANCE: f64 = 0.01;

/// nDCG@10 of each way to search, on every sixth claim of SciFact among 192 abstracts.
const RECORDED: [(&[&str], f64); 4] = [
    (&["--mode", "vector"], 0.8285),
    (&["--mode", "keyword"], 0.7870),
    (&["--mode", "hybrid"], 0.8514),
    // Few are scored again, which keeps the test short.
    (&["--rerank", "late-interaction", "--rerank-weight", "0.4", "--rerank-depth", "5"], 0.8283),
];

#[tokio::test]
async fn retrieval_is_as_good_as_recorded() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let server = Server::start(data.path()).await;
    let set = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/scifact-sample");
    let mut got = Vec::new();
    for (arguments, _) in RECORDED {
        let output = Command::new(env!("CARGO_BIN_EXE_trove"))
            .args(["eval", "--json", "--protocol", "service", "--collection", "sample"])
            .arg(&set)
            .args(arguments)
            .env("TROVE_SERVER", &server.url)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let measured: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        got.push(measured["ndcg_at_10"].as_f64().unwrap());
    }
    for ((arguments, expected), got_one) in RECORDED.into_iter().zip(&got) {
        assert!((got_one - expected).abs() <= TOLERANCE, "{arguments:?}: expected {expected}, all: {got:?}");
    }
}

/// Candidates are fused by the similarities of their codes; what is returned has that of the vectors.
#[tokio::test]
async fn hybrid_hits_have_exact_similarities() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let server = Server::start(data.path()).await;
    let channel = server.channel().await;
    common::create(&channel, common::NOTES).await;
    for some in common::abstracts().chunks(32) {
        upsert(&channel, some.to_vec()).await;
    }
    let asked = "Bone marrow cells contribute to adult macrophage compartments in mice with a fever";
    for unit in [SearchUnit::Passage, SearchUnit::Document] {
        let asked = proto::SearchRequest { unit: unit.into(), ..query(asked) };
        let all = proto::SearchRequest { mode: SearchMode::Vector.into(), limit: 1000, ..asked.clone() };
        let all = found(&channel, all).await;
        assert!(all.len() >= 190);
        for (method, max_per_document) in [
            (None, 0),
            (None, 1),
            (Some(Method::Alpha(0.0)), 0),
            (Some(Method::Alpha(1.0)), 1),
            (Some(Method::RrfK(1)), 0),
        ] {
            let sentence_weight = (method == Some(Method::Alpha(1.0))).then_some(0.0);
            let fusion = method.map(|method| proto::Fusion { method: Some(method), sentence_weight });
            let request = proto::SearchRequest { fusion, max_per_document, ..asked.clone() };
            let hits = found(&channel, request).await;
            assert_eq!(hits.len(), 10);
            for hit in &hits {
                let same = all.iter().find(|other| other.passage == hit.passage).unwrap();
                assert_eq!(hit.vector_score, same.vector_score, "{fusion:?}");
            }
            if let Some(Method::Alpha(1.0)) = method {
                // Long titles make some abstracts two passages.
                let mut nearest = ids(&all);
                let mut seen = std::collections::HashSet::new();
                nearest.retain(|id| seen.insert(*id));
                assert_eq!(ids(&hits), nearest[..10], "vectors alone");
            }
            let scores: Vec<f32> = hits.iter().map(|hit| hit.score).collect();
            assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
        }
    }
}

fn late(weight: Option<f32>, depth: u32) -> Option<Rerank> {
    let method = rerank::Method::LateInteraction(LateInteraction { weight });
    Some(Rerank { method: Some(method), depth })
}

#[tokio::test]
async fn the_best_hits_are_scored_again_and_the_others_follow() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let server = Server::start(data.path()).await;
    let channel = server.channel().await;
    common::create(&channel, common::NOTES).await;
    let texts = [
        ("cats", "The cat sleeps on the warm windowsill all afternoon."),
        ("dogs", "Dogs bark at the postman every single morning."),
        ("bread", "Bread browns because sugars and proteins react in the heat."),
        ("ships", "The ship left the harbour at dawn, bound for the north."),
    ];
    upsert(&channel, texts.iter().map(|(id, text)| text_document(id, text)).collect()).await;
    let asked = "Why does bread turn brown?";
    let plain = found(&channel, query(asked)).await;
    assert!(plain.iter().all(|hit| hit.rerank_score.is_none()));

    let request = proto::SearchRequest { rerank: late(None, 2), ..query(asked) };
    let hits = found(&channel, request).await;
    assert_eq!(hits[0].passage.as_ref().unwrap().document_id, "bread");
    let scored: Vec<bool> = hits.iter().map(|hit| hit.rerank_score.is_some()).collect();
    assert_eq!(scored, [true, true, false, false]);
    assert!(hits[0].rerank_score > hits[1].rerank_score);
    assert_eq!(ids(&hits[2..]), ids(&plain[2..]), "the others keep their order");
    // More are scored again than are wanted.
    let request = proto::SearchRequest { rerank: late(Some(1.0), 4), limit: 1, ..query(asked) };
    let best = found(&channel, request).await;
    assert_eq!(best.len(), 1);
    assert!(best[0].rerank_score.unwrap() <= 1.0 + 1e-6);
    // Without weight the first scores are left.
    let request = proto::SearchRequest { rerank: late(Some(0.0), 4), ..query(asked) };
    let same = found(&channel, request).await;
    assert_eq!(ids(&same), ids(&plain));
    assert!(same.iter().all(|hit| hit.rerank_score == Some(hit.score)));
    // A text is nearest to itself, token by token.
    let itself = proto::SearchRequest { rerank: late(Some(1.0), 4), ..query(texts[3].1) };
    let hits = found(&channel, itself).await;
    assert_eq!(hits[0].passage.as_ref().unwrap().document_id, "ships");
    assert!((hits[0].rerank_score.unwrap() - 1.0).abs() < 0.01, "{:?}", hits[0].rerank_score);

    let like = proto::SearchQuery { query: Some(search_query::Query::DocumentId("cats".to_owned())) };
    let cross_encoder = Rerank { method: Some(rerank::Method::CrossEncoder(String::new())), depth: 0 };
    let bad = "BAD_RERANK";
    for (request, code, expected) in [
        (proto::SearchRequest { rerank: late(None, 201), ..query(asked) }, Code::InvalidArgument, bad),
        (proto::SearchRequest { rerank: late(Some(1.5), 0), ..query(asked) }, Code::InvalidArgument, bad),
        (
            proto::SearchRequest { rerank: late(None, 0), query: Some(like), ..query(asked) },
            Code::InvalidArgument,
            bad,
        ),
        (
            proto::SearchRequest { rerank: late(None, 0), unit: SearchUnit::Document.into(), ..query(asked) },
            Code::InvalidArgument,
            bad,
        ),
        (
            proto::SearchRequest { rerank: Some(cross_encoder), ..query(asked) },
            Code::FailedPrecondition,
            "NO_CROSS_ENCODER",
        ),
    ] {
        let error = SearchServiceClient::new(channel.clone()).search(request).await.unwrap_err();
        assert_eq!((error.code(), reason(&error).as_str()), (code, expected));
    }
}
