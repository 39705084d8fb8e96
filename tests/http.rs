//! The API over HTTP: JSON, OpenAI's form, streams, the page, and what is refused, with the real models.

mod common;

use base64::Engine;
use common::{NOTES, Server, create, data_dir, make_key, models, query, text_document, upsert};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

const TEXTS: [(&str, &str); 3] = [
    ("lamp", "The lighthouse of Skagen was built in 1858. Its lamp turns once in four seconds."),
    ("bread", "Bread is baked from flour, water and salt. The dough rests for an hour."),
    ("script", "<script>alert('x')</script> is shown as text."),
];

async fn status_and_json(response: Response) -> (u16, Value) {
    let (status, text) = (response.status().as_u16(), response.text().await.unwrap());
    (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{status} {error}: {text}")))
}

async fn sent(request: RequestBuilder) -> (u16, Value) {
    status_and_json(request.send().await.unwrap()).await
}

/// The reason of a refusal, with its status.
async fn refused(request: RequestBuilder) -> (u16, String) {
    let (status, value) = sent(request).await;
    (status, value["error"]["code"].as_str().unwrap_or_else(|| panic!("{value}")).to_owned())
}

async fn with_texts(server: &Server) {
    let channel = server.channel().await;
    create(&channel, NOTES).await;
    upsert(&channel, TEXTS.map(|(id, text)| text_document(id, text)).to_vec()).await;
}

#[tokio::test]
async fn json_is_the_api() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let server = Server::start(data.path()).await;
    with_texts(&server).await;
    let (client, at) = (Client::new(), format!("{}/api/v1", server.url));

    // What it says is what gRPC says.
    let by_grpc = common::found(&server.channel().await, query("how old is the tower with the light?")).await;
    let body = json!({"query": {"text": "how old is the tower with the light?"}, "limit": 3});
    let (status, found) = sent(client.post(format!("{at}/collections/{NOTES}/search")).json(&body)).await;
    assert_eq!((status, found["hits"].as_array().unwrap().len()), (200, by_grpc.len()));
    for (hit, expected) in found["hits"].as_array().unwrap().iter().zip(&by_grpc) {
        let passage = expected.passage.as_ref().unwrap();
        assert_eq!(hit["passage"]["document_id"], passage.document_id.as_str());
        assert!((hit["score"].as_f64().unwrap() - f64::from(expected.score)).abs() < 1e-6);
    }
    let (_, same) =
        sent(client.get(format!(
            "{at}/collections/{NOTES}/search?q=how+old+is%20the+tower+with+the+light%3F&limit=3"
        )))
        .await;
    assert_eq!(same["hits"], found["hits"]);

    // A collection from its creation to its end.
    let made = client
        .post(format!("{at}/collections"))
        .json(&json!({"collection": {"name": "boats", "language": "german"}}));
    assert_eq!(sent(made).await.1["collection"]["language"], "german");
    let change = json!({"collection": {"description": "all of them"}, "update_mask": "description"});
    let (_, changed) = sent(client.patch(format!("{at}/collections/boats")).json(&change)).await;
    assert_eq!(changed["collection"]["description"], "all of them");
    let id = "a folder/Über 50% & more.md";
    let documents = json!({"documents": [{"id": id, "text": "Kestrel is a yawl.", "metadata": {"length": {"int_value": 9007199254740993_i64}}}]});
    let (_, put) = sent(client.post(format!("{at}/collections/boats/documents")).json(&documents)).await;
    assert_eq!(put["results"][0]["status"], "DOCUMENT_STATUS_INDEXED");
    let escaped = "a%20folder%2F%C3%9Cber%2050%25%20%26%20more.md";
    let (_, got) = sent(client.get(format!("{at}/collections/boats/documents/{escaped}?view=full"))).await;
    assert_eq!(
        (&got["document"]["id"], &got["document"]["text"]),
        (&json!(id), &json!("Kestrel is a yawl."))
    );
    assert_eq!(got["document"]["metadata"]["length"]["int_value"], 9_007_199_254_740_993_i64);
    let (_, gone) = sent(client.delete(format!("{at}/collections/boats/documents/{escaped}"))).await;
    assert_eq!(gone["deleted_count"], 1);
    assert_eq!(sent(client.delete(format!("{at}/collections/boats"))).await.0, 200);
    assert_eq!(
        refused(client.get(format!("{at}/collections/boats"))).await,
        (404, "UNKNOWN_COLLECTION".to_owned())
    );
}

#[tokio::test]
async fn files_and_lines_are_taken_and_given() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let server = Server::start(data.path()).await;
    with_texts(&server).await;
    let (client, at) = (Client::new(), format!("{}/api/v1/collections/{NOTES}", server.url));
    let form = "--X\r\nContent-Disposition: form-data; name=\"file\"; filename=\"../notes/Ferry.md\"\r\n\
                Content-Type: application/octet-stream\r\n\r\n# Ferry\n\nIt leaves at noon.\r\n\
                --X\r\nContent-Disposition: form-data; name=\"file\"; filename=\"empty.txt\"\r\n\r\n\r\n--X--\r\n";
    let request = client
        .post(format!("{at}/files"))
        .header("content-type", "multipart/form-data; boundary=X")
        .body(form);
    let (_, put) = sent(request).await;
    let results = put["results"].as_array().unwrap();
    assert_eq!(
        (&results[0]["document_id"], &results[0]["status"]),
        (&json!("notes/Ferry.md"), &json!("DOCUMENT_STATUS_INDEXED"))
    );
    assert_eq!(results[1]["error_reason"], "EMPTY_DOCUMENT");
    let (_, ferry) = sent(client.get(format!("{at}/documents/notes%2FFerry.md"))).await;
    assert_eq!(
        (&ferry["document"]["title"], &ferry["document"]["mime_type"]),
        (&json!("Ferry"), &json!("text/markdown"))
    );
    assert_eq!(ferry["document"]["metadata"]["extension"]["string_value"], "md");

    // A stream that breaks off tells what came before and where it broke.
    let lines = "{\"id\": \"l1\", \"text\": \"One line.\"}\n\n{\"id\": \"l2\", \"text\": \"Another.\"}\n{\"id\": 3}\n";
    let request =
        client.post(format!("{at}/ingest")).header("content-type", "application/x-ndjson").body(lines);
    let answer = request.send().await.unwrap().text().await.unwrap();
    let answers: Vec<Value> = answer.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let stored: Vec<&str> =
        answers.iter().filter_map(|line| line["result"]["document_id"].as_str()).collect();
    assert!(stored.contains(&"l1") && stored.contains(&"l2"), "{answer}");
    let last = answers.last().unwrap();
    assert_eq!(last["error"]["code"], "BAD_JSON");
    assert!(last["error"]["message"].as_str().unwrap().starts_with("line 4:"), "{last}");

    let exported = client.get(format!("{at}/export")).send().await.unwrap().text().await.unwrap();
    let texts =
        exported.lines().filter(|line| serde_json::from_str::<Value>(line).unwrap()["document"].is_object());
    assert_eq!(texts.count(), TEXTS.len() + 3);
}

#[tokio::test]
async fn answers_come_whole_and_in_pieces() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let server = Server::start(data.path()).await;
    with_texts(&server).await;
    let (client, url) = (Client::new(), &server.url);
    let ask = || {
        let body =
            json!({"question": "When was the lighthouse of Skagen built?", "mode": "ANSWER_MODE_EXTRACTIVE"});
        client.post(format!("{url}/api/v1/collections/{NOTES}/answer")).json(&body)
    };
    let (_, whole) = sent(ask()).await;
    assert!(whole["text"].as_str().unwrap().contains("1858"), "{whole}");
    assert_eq!(whole["citations"][0]["passage"]["document_id"], "lamp");
    assert_eq!(whole["done"]["kind"], "ANSWER_KIND_QUOTED");
    let streamed = ask().header("accept", "text/event-stream").send().await.unwrap();
    assert_eq!(streamed.headers()["content-type"], "text/event-stream");
    let streamed = streamed.text().await.unwrap();
    let events: Vec<&str> = streamed.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!((events[0], *events.last().unwrap()), ("retrieval", "done"));
    let failed =
        client.post(format!("{url}/api/v1/collections/none/answer")).json(&json!({"question": "x?"}));
    let failed = failed.header("accept", "text/event-stream");
    assert_eq!(refused(failed).await, (404, "UNKNOWN_COLLECTION".to_owned()), "a status, not an event");

    // The same in OpenAI's form: the collection is the model.
    let question = json!([{"role": "system", "content": "Be kind."}, {"role": "user", "content": [{"type": "text", "text": "When was the lighthouse of Skagen built?"}]}]);
    let body = json!({"model": NOTES, "messages": question, "trove": {"mode": "extractive"}});
    let (_, reply) = sent(client.post(format!("{url}/v1/chat/completions")).json(&body)).await;
    let content = reply["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(content.contains("1858") && content.contains("[1]"), "{reply}");
    let cited = &reply["choices"][0]["message"]["annotations"][0]["url_citation"];
    let (start, end) =
        (cited["start_index"].as_u64().unwrap() as usize, cited["end_index"].as_u64().unwrap() as usize);
    assert_eq!(content.chars().skip(start).take(end - start).collect::<String>(), " [1]");
    let streaming = json!({"messages": question, "stream": true, "stream_options": {"include_usage": true}, "trove": {"mode": "extractive"}});
    let path = format!("{url}/v1/collections/{NOTES}/chat/completions");
    let chunks = client.post(&path).json(&streaming).send().await.unwrap().text().await.unwrap();
    assert!(chunks.ends_with("data: [DONE]\n\n"), "{chunks}");
    let chunks: Vec<Value> =
        chunks.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect();
    let pieces = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str());
    assert_eq!(pieces.collect::<String>(), content);
    assert!(chunks.last().unwrap()["usage"]["total_tokens"].is_u64());
    let unknown = json!({"model": NOTES, "messages": [{"role": "user", "content": "What is the capital of Mongolia?"}], "trove": {"mode": "extractive"}});
    let (_, reply) = sent(client.post(format!("{url}/v1/chat/completions")).json(&unknown)).await;
    assert_eq!(reply["choices"][0]["message"]["content"], "The documents do not answer this question.");
    for (wrong, reason) in [
        (json!({"model": NOTES, "messages": []}), "NO_QUESTION"),
        (json!({"model": NOTES, "messages": question, "n": 2}), "UNSUPPORTED_PARAMETER"),
        (
            json!({"model": NOTES, "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
            "UNSUPPORTED_CONTENT",
        ),
        (json!({"model": NOTES}), "BAD_JSON"),
    ] {
        let request = client.post(format!("{url}/v1/chat/completions")).json(&wrong);
        assert_eq!(refused(request).await, (400, reason.to_owned()), "{wrong}");
    }
}

#[tokio::test]
async fn embeddings_are_those_of_the_encoder() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let server = Server::start(data.path()).await;
    let (client, url) = (Client::new(), &server.url);
    let embed = |body: Value| client.post(format!("{url}/v1/embeddings")).json(&body);
    let (_, numbers) =
        sent(embed(json!({"input": ["fog", "a longer text"], "model": "text-embedding-3-small"}))).await;
    let (_, bytes) =
        sent(embed(json!({"input": ["fog", "a longer text"], "encoding_format": "base64"}))).await;
    for at in 0..2 {
        let vector: Vec<f32> = numbers["data"][at]["embedding"]
            .as_array()
            .unwrap()
            .iter()
            .map(|x| x.as_f64().unwrap() as f32)
            .collect();
        let decoded = base64::prelude::BASE64_STANDARD
            .decode(bytes["data"][at]["embedding"].as_str().unwrap())
            .unwrap();
        let same: Vec<f32> =
            decoded.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        assert_eq!((vector.len(), &vector), (384, &same));
    }
    assert_eq!(numbers["usage"]["prompt_tokens"], numbers["usage"]["total_tokens"]);
    // A text that is longer than the model takes is pooled over windows.
    assert_eq!(sent(embed(json!({"input": "word ".repeat(2000)}))).await.0, 200);
    for (wrong, status, reason) in [
        (json!({"input": [[1, 2, 3]]}), 400, "TOKEN_IDS"),
        (json!({"input": []}), 400, "EMPTY_INPUT"),
        (json!({"input": "x", "model": "gpt-4"}), 404, "UNKNOWN_MODEL"),
        (json!({"input": "x", "encoding_format": "int8"}), 400, "BAD_JSON"),
    ] {
        assert_eq!(refused(embed(wrong.clone())).await, (status, reason.to_owned()), "{wrong}");
    }
    let (_, bare) = sent(client.post(format!("{url}/embed")).json(&json!({"inputs": "fog"}))).await;
    assert_eq!(bare[0], numbers["data"][0]["embedding"]);
    let (_, listed) = sent(client.get(format!("{url}/v1/models"))).await;
    assert!(listed["data"].as_array().unwrap().iter().any(|model| model["id"] == "all-MiniLM-L6-v2"));
}

#[tokio::test]
async fn what_is_wrong_is_told_and_other_sites_are_refused() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let server =
        Server::start_with(data.path(), &[("TROVE__HTTP__ORIGINS", "https://search.example.org")]).await;
    with_texts(&server).await;
    let (client, url) = (Client::new(), &server.url);
    let search = format!("{url}/api/v1/collections/{NOTES}/search");
    let body = json!({"query": {"text": "x"}});
    for (request, status, reason) in [
        (client.post(&search).body("{}"), 415, "UNSUPPORTED_MEDIA_TYPE"),
        (client.post(&search).header("content-type", "text/plain").body("{}"), 415, "UNSUPPORTED_MEDIA_TYPE"),
        (client.post(&search).json(&json!({"query": {"text": "x"}, "limti": 3})), 400, "BAD_JSON"),
        (client.post(&search).header("content-type", "application/json").body("{\"query\""), 400, "BAD_JSON"),
        (
            client.post(&search).header("content-type", "application/json").body("[".repeat(100_000)),
            400,
            "BAD_JSON",
        ),
        (client.get(format!("{search}?q=x&limit=many")), 400, "BAD_PARAMETER"),
        (client.get(format!("{search}?q=x&mode=magic")), 400, "BAD_PARAMETER"),
        (client.get(format!("{search}?q=x&color=red")), 400, "UNKNOWN_PARAMETER"),
        (client.put(&search), 405, "METHOD_NOT_ALLOWED"),
        (client.get(format!("{url}/api/v1/nothing")), 404, "UNKNOWN_PATH"),
        (client.get(format!("{url}/../../etc/passwd")), 404, "UNKNOWN_PATH"),
        (client.post(&search).json(&body).header("origin", "http://evil.example"), 403, "ORIGIN_REFUSED"),
        (client.post(&search).json(&body).header("origin", "null"), 403, "ORIGIN_REFUSED"),
        (client.post(&search).json(&body).header("host", "evil.example"), 403, "HOST_REFUSED"),
    ] {
        assert_eq!(refused(request).await, (status, reason.to_owned()));
    }
    let own = client.post(&search).json(&body).header("origin", url.as_str());
    assert_eq!(own.send().await.unwrap().status(), StatusCode::OK);
    let named = client.post(&search).json(&body).header("origin", "https://search.example.org");
    let named = named.send().await.unwrap();
    assert_eq!(named.headers()["access-control-allow-origin"], "https://search.example.org");
    let page = client.get(format!("{url}/ui/search?collection=x")).send().await.unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let etag = page.headers()["etag"].clone();
    let again = client.get(format!("{url}/ui/")).header("if-none-match", etag).send().await.unwrap();
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    let (_, described) = sent(client.get(format!("{url}/openapi.json"))).await;
    let mut missing = Vec::new();
    references(&described, &mut |name| {
        let name = name.trim_start_matches("#/components/schemas/");
        if described["components"]["schemas"][name].is_null() {
            missing.push(name.to_owned());
        }
    });
    assert_eq!(missing, Vec::<String>::new());
}

fn references(value: &Value, see: &mut impl FnMut(&str)) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| match value.as_str() {
            Some(name) if key == "$ref" => see(name),
            _ => references(value, see),
        }),
        Value::Array(list) => list.iter().for_each(|value| references(value, see)),
        _ => {}
    }
}

#[tokio::test]
async fn keys_hold_as_they_do_for_grpc() {
    let Some(models) = models() else { return };
    let data = data_dir(&models);
    let server = Server::start(data.path()).await;
    with_texts(&server).await;
    let (client, url) = (Client::new(), &server.url);
    let read = make_key(data.path(), "r", "read", &[]);
    let other = make_key(data.path(), "o", "admin", &["other"]);
    let list = || client.get(format!("{url}/api/v1/collections/{NOTES}/documents"));
    // The server looks for new keys now and then.
    for _ in 0..100 {
        if list().send().await.unwrap().status() == StatusCode::UNAUTHORIZED {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let no_key = list().send().await.unwrap();
    assert_eq!(no_key.headers()["www-authenticate"], "Bearer");
    assert_eq!(no_key.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(list().bearer_auth(&read).send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(list().header("x-api-key", &read).send().await.unwrap().status(), StatusCode::OK);
    assert_eq!(list().bearer_auth(&other).send().await.unwrap().status(), StatusCode::FORBIDDEN);
    let delete = client.delete(format!("{url}/api/v1/collections/{NOTES}?force=true")).bearer_auth(&read);
    assert_eq!(delete.send().await.unwrap().status(), StatusCode::FORBIDDEN);
    // A body of one who may not call is not read.
    let put = client
        .post(format!("{url}/api/v1/collections/{NOTES}/documents"))
        .json(&json!({"documents": [{"text": "x"}]}));
    assert_eq!(put.send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    // The page itself holds nothing that is secret.
    assert_eq!(client.get(format!("{url}/ui/")).send().await.unwrap().status(), StatusCode::OK);
}
