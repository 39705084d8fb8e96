//! Words are found however they are typed, in every script, and what is written as asked for comes first.

use proptest::prelude::*;
use unicode_normalization::UnicodeNormalization;

use crate::{KeywordDocument, KeywordIndex, KeywordPassage, KeywordQuery};
use trove_core::domain::Language;

/// An index of passages, each a document of its own.
struct Texts {
    index: KeywordIndex,
    _dir: tempfile::TempDir,
}

impl Texts {
    fn new(language: Language, texts: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut index = KeywordIndex::open(&dir.path().join("1"), language).unwrap();
        for (doc_no, text) in (0..).zip(texts) {
            let passage =
                KeywordPassage { point: u64::from(doc_no), text: (*text).to_owned(), headings: Vec::new() };
            let document = KeywordDocument { passages: vec![passage], ..KeywordDocument::default() };
            index.add(doc_no, &document).unwrap();
        }
        index.commit().unwrap();
        Self { index, _dir: dir }
    }

    fn found<'a>(&self, query: impl Into<KeywordQuery<'a>>) -> Vec<u64> {
        let found = self.index.reader().search(query, 100, None).unwrap();
        for hit in &found.matches {
            assert!(hit.score <= found.ceiling * 1.0001, "{hit:?} {}", found.ceiling);
        }
        found.matches.iter().map(|m| m.point).collect()
    }

    /// What is found by the beginning of a word.
    fn begun(&self, text: &str) -> Vec<u64> {
        self.found(KeywordQuery { text, is_last_word_prefix: true })
    }
}

/// Each query finds the passage of its number first.
#[track_caller]
fn first(language: Language, texts: &[&str], queries: &[(&str, u64)]) {
    let index = Texts::new(language, texts);
    for (query, expected) in queries {
        assert_eq!(index.found(*query).first(), Some(expected), "{query:?} in {texts:?}");
    }
}

const NOTHING: &str = "Nothing of the kind is in this one.";

#[test]
fn composed_and_decomposed_text_are_the_same() {
    let nfd: String = "Der Kapitän Müller prüft. Señor Núñez, Đường Nguyễn, Škoda.".nfd().collect();
    let queries = ["Müller", "Kapitän", "Núñez", "Nguyễn", "Škoda", "Muller", "nguyen", "skoda"];
    let queries: Vec<(&str, u64)> = queries.into_iter().map(|query| (query, 1)).collect();
    first(Language::English, &[NOTHING, &nfd], &queries);
    let nfc = "Der Kapitän Müller prüft.";
    let query: String = "Müller".nfd().collect();
    first(Language::German, &[NOTHING, nfc], &[(&query, 1), ("MÜLLER", 1), ("Mueller", 1)]);
}

#[test]
fn invisible_signs_split_no_words() {
    let text =
        "Der Kon\u{ad}troll\u{ad}raum. Pass\u{200b}word. non\u{2060}stop \u{feff}trip, می\u{200c}خواهم";
    let queries = [("Kontrollraum", 1), ("password", 1), ("nonstop", 1), ("trip", 1), ("می\u{200c}خواهم", 1)];
    first(Language::English, &["Kontrolle. A room. Pass the word. stop", text], &queries);
    first(Language::English, &["room", "Kontrollraum"], &[("Kon\u{ad}troll\u{ad}raum", 1)]);
}

#[test]
fn compatibility_forms_are_plain_ones() {
    let text = "ＥＭ９４０ efﬁcient ｶﾞｲﾄﾞ №５ ㎏ Trove™ ℃";
    let queries = [
        ("EM940", 1),
        ("efficient", 1),
        ("ガイド", 1),
        ("kg", 1),
        ("trove", 1),
        ("ＥＭ９４０", 1),
        ("no5", 1),
    ];
    first(Language::English, &[NOTHING, text], &queries);
}

#[test]
fn latin_and_digits_that_touch_signs_are_words() {
    let texts = [
        "猫が好きです。天気がよい。",
        "2024年4月にiPhone15を港で紛失した。型番はEM940です。",
        "서울2024년 GPU서버",
        "ราคา500บาทUSB",
    ];
    let queries =
        [("iPhone15", 1), ("2024 4", 1), ("EM940", 1), ("iphone", 1), ("GPU", 2), ("500", 3), ("usb", 3)];
    first(Language::English, &texts, &queries);
}

#[test]
fn one_sign_finds_the_words_that_hold_it() {
    let texts = ["犬が走る。", "黒猫が船にいる。", "배가 섬에 간다", "กบ"];
    first(Language::English, &texts, &[("猫", 1), ("船", 1), ("犬", 0), ("黒猫", 1), ("배", 2), ("섬", 2)]);
    // A sign that ends a run, and one between others.
    let index = Texts::new(Language::None, &["東京都", "京", "都市"]);
    assert_eq!(index.found("都").len(), 2);
    assert_eq!(index.found("京")[0], 1);
    assert_eq!(index.found("京").len(), 2);
}

#[test]
fn words_of_scripts_without_spaces_are_found_within_sentences() {
    let texts = [
        "天气很好。",
        "灯塔看守人每晚记录经过的船只。",
        "灯台守は毎晩、通過する船を記録する。",
        "ผู้ดูแลประภาคารนับเรือทุกคืน",
        "날씨가 좋다.",
        "서울에서 출발하는 배는 부산으로 간다. 등대를 지난다.",
        "ភ្នំពេញជាទីក្រុង",
    ];
    let queries = [
        ("灯塔", 1),
        ("船只", 1),
        ("灯台守", 2),
        ("記録", 2),
        ("ประภาคาร", 3),
        ("เรือ", 3),
        ("서울", 5),
        ("부산", 5),
        ("등대", 5),
        ("부산은", 5),
        ("ភ្នំពេញ", 6),
    ];
    first(Language::English, &texts, &queries);
    first(Language::Auto, &texts, &queries);
}

#[test]
fn signs_tell_names_apart() {
    let texts = [
        "Vitamin C is in the stores; grade C wood; plan C; point C; C C C.",
        "The driver is written in C++ and talks to the gauge.",
        "The viewer is written in C# on .NET.",
        "The solver is in F# code; build it with g++.",
        "Our R&D team works with AT&T on a net; the D team and the R team too.",
        "grade F wood; a net of rope; R and D are letters.",
    ];
    let queries = [
        ("C++", 1),
        ("c++ driver", 1),
        ("C#", 2),
        ("F#", 3),
        ("g++", 3),
        (".NET", 2),
        ("R&D", 4),
        ("AT&T", 4),
        ("C", 0),
    ];
    first(Language::English, &texts, &queries);
    let index = Texts::new(Language::English, &texts);
    assert_eq!(index.found("C++"), [1]);
    assert_eq!(index.found("C#"), [2]);
    assert_eq!(index.found("C"), [0], "C is neither C++ nor C#");
}

#[test]
fn names_written_as_one_word_are_found_whole_and_by_parts() {
    let texts = [
        "The user forgot the name of the policy for the response.",
        "Call getUserName or parseHTTPResponse before the retryBackoffPolicy applies.",
        "get user name",
        "Set MAX_BATCH_SIZE, maxRetryCount and kebab-case-name.",
    ];
    let queries = [
        ("getUserName", 1),
        ("getusername", 1),
        ("parse http response backoff", 1),
        ("backoff", 1),
        ("get_user_name", 1),
        ("max_batch_size", 3),
        ("maxBatchSize", 3),
        ("batch", 3),
        ("max-retry-count", 3),
        ("kebabCaseName", 3),
    ];
    first(Language::English, &texts, &queries);
    assert!(Texts::new(Language::English, &texts).found("getUserName").contains(&2));
}

#[test]
fn parts_of_compounds_are_found() {
    let texts = [
        "Heute regnet es im Garten.",
        "Die Versicherungspflicht gilt für Hafenlotsen und die Datenbankreplikation.",
        "Der Haftpflichtversicherungsvertrag und das Krankenhaus.",
        "Eine Versicherung.",
        "Die Donaudampfschifffahrtsgesellschaft hat ihren Sitz in der Stadt.",
    ];
    let queries = [
        ("Replikation", 1),
        ("Lotsen", 1),
        ("Hafen", 1),
        ("Versicherung", 3),
        ("Vertrag", 2),
        ("Haftpflicht", 2),
        ("Häuser", 2),
        ("Schifffahrt", 4),
        ("Gesellschaft", 4),
    ];
    first(Language::German, &texts, &queries);
    first(Language::Auto, &texts, &queries);
    let index = Texts::new(Language::German, &texts);
    let mut found = index.found("Versicherung");
    found.sort_unstable();
    assert_eq!(found, [1, 2, 3]);
    // And a compound finds its parts, after itself.
    let index = Texts::new(Language::German, &["Die Lotsen im Hafen.", "Die Hafenlotsen.", "Der Garten."]);
    assert_eq!(index.found("Hafenlotsen"), [1, 0]);
    first(
        Language::Dutch,
        &["De tuin.", "De ziektekostenverzekering."],
        &[("verzekering", 1), ("kosten", 1)],
    );
    first(Language::Swedish, &["En trädgård.", "Sjukförsäkringskassan är stängd."], &[("försäkring", 1)]);
}

#[test]
fn queries_of_stop_words_find_them() {
    let texts = [
        "A fish market is held weekly near the church. Who is it for?",
        "To be, or not to be: that is written over the door.",
        "IT is on the second floor; call IT for a new password.",
        "The Who played on the quay in 1971.",
        "Nothing to see, or to hear; it is not for us to be there.",
    ];
    let queries = [("The Who", 3), ("to be or not to be", 1), ("IT", 2), ("the who", 3)];
    first(Language::English, &texts, &queries);
    first(Language::Auto, &texts, &queries);
    first(Language::German, &["Das Haus.", "Wir sind wer. Die Ärzte"], &[("wir sind", 1)]);
    let index = Texts::new(Language::English, &texts);
    assert_eq!(index.found("the market"), [0], "beside other words they count for nothing");
}

#[test]
fn numbers_are_found_without_their_separators() {
    let texts = [
        "It cost 1 and 250 of 000 others. 375 of them.",
        "The lock cost 1,250,000 euros; the gate 3.75 million. Serial 00417. Price: 1 450,50 kr.",
        "Write to +47 22 33 44 55 or (040) 123-4567.",
        "Einwohner: 1.833.930; 2'500'000; 12\u{a0}345\u{a0}678",
    ];
    let queries = [
        ("1250000", 1),
        ("1,250,000", 1),
        ("00417", 1),
        ("3.75", 1),
        ("1450", 1),
        ("22334455", 2),
        ("+4722334455", 2),
        ("0401234567", 2),
        ("1833930", 3),
        ("2500000", 3),
        ("12345678", 3),
        ("1 250 000", 1),
    ];
    first(Language::English, &texts, &queries);
    assert!(!Texts::new(Language::English, &["12.5"]).found("1.25").contains(&0));
}

#[test]
fn identifiers_are_found_whole_before_their_parts() {
    let digest = "ab12cd34".repeat(16);
    let long = format!("Image digest sha512 {digest} was signed.");
    let texts = [
        "anna called berg at the harbour; 10 of 20; the pump log; Chapter 4 of 11 has 2 pages. 4, 11, 2.",
        "Write to anna.berg@harbour.example. Host 10.20.30.40, path /var/log/pump.log, id 3f2504e0-4f89-11d3-9a0c-0305e82c3301.",
        "Firmware v4.11.2 fixes the pump alarm.",
        "The maximum size of a batch of cookies; no color; join the path; pass the server.",
        "Set max_batch_size in server.yaml, pass --no-color, import os.path.join, and read ERR-1042.",
        "Order something else: EM, 940, SK, 22, W, 962, 6. EM 940 is a band; 940 EM; COVID cases 19; 2019, 2021.",
        "Order the seal kit EM940-SK22 and the filter W-962/6 for pump P&ID-7.",
        "The fault COVID\u{2011}19 drill used pump EM\u{2011}940 in 2019\u{2013}2021.",
        &long,
        "See https://example.com/docs/install.html?x=1 and example.org.",
    ];
    let queries = [
        ("anna.berg@harbour.example", 1),
        ("harbour.example", 1),
        ("10.20.30.40", 1),
        ("3f2504e0-4f89-11d3-9a0c-0305e82c3301", 1),
        ("3F2504E04F8911D39A0C0305E82C3301", 1),
        ("/var/log/pump.log", 1),
        ("pump.log", 1),
        ("4.11.2", 2),
        ("firmware 4.11.2", 2),
        ("v4.11.2", 2),
        ("max_batch_size", 4),
        ("--no-color", 4),
        ("os.path.join", 4),
        ("ERR-1042", 4),
        ("err1042", 4),
        ("EM940SK22", 6),
        ("EM-940-SK-22", 6),
        ("em940/sk22", 6),
        ("W962/6", 6),
        ("P&ID-7", 6),
        ("EM-940", 7),
        ("2019-2021", 7),
        ("COVID-19", 7),
        (&digest, 8),
        ("https://example.com/docs/install.html", 9),
        ("example.com", 9),
        ("install.html", 9),
    ];
    first(Language::English, &texts, &queries);
}

#[test]
fn accents_may_be_left_out_and_count_where_they_are_typed() {
    let text = "Her résumé lists a protégé, a fiancée and three cafés; the façade is naïve.";
    let queries =
        ["resume", "protege", "fiancee", "cafes", "facade", "résumés", "resumes", "naive", "RÉSUMÉ", "café"];
    let queries: Vec<(&str, u64)> = queries.into_iter().map(|query| (query, 1)).collect();
    first(Language::English, &[NOTHING, text], &queries);
    first(
        Language::French,
        &[NOTHING, "La liberté, les qualités élégantes."],
        &[("liberte", 1), ("qualité", 1), ("qualites", 1), ("elegante", 1)],
    );
    first(Language::English, &["a resume of it", "a résumé of it"], &[("résumé", 1)]);
    first(Language::German, &["Muller hier", "Müller hier", "Mueller hier"], &[("Müller", 1)]);
    first(
        Language::English,
        &["Muller here", "Müller here", "Mueller here"],
        &[("Müller", 1), ("Mueller", 2)],
    );
    let index = Texts::new(Language::German, &["Müller", "Mueller", "Meier"]);
    assert_eq!([index.found("Müller").len(), index.found("Mueller").len()], [2, 2]);
    let index = Texts::new(Language::German, &["Straße", "Strasse", "STRASSE", "Weg"]);
    assert_eq!(index.found("straße").len(), 3);
    assert_eq!(index.found("STRASSE").len(), 3);
    first(Language::Spanish, &["nada", "La acción rápida"], &[("accion", 1), ("rapidas", 1)]);
    first(
        Language::English,
        &["none", "Phở ở Hà Nội, Đà Nẵng"],
        &[("pho", 1), ("Ha Noi", 1), ("Da Nang", 1)],
    );
    first(
        Language::Turkish,
        &["yok", "İstanbul ılık ışık"],
        &[("istanbul", 1), ("ISTANBUL", 1), ("ISIK", 1)],
    );
    first(Language::Greek, &["όχι", "ΟΔΥΣΣΕΎΣ και φάρος"], &[("οδυσσευς", 1), ("Οδυσσεύς", 1), ("φαροσ", 1)]);
}

#[test]
fn scripts_with_marks_are_found_with_and_without_them() {
    let texts = [
        "nothing at all",
        "मुंबई बंदरगाह पर जहाज़ रुका। हिन्दी",
        "وَصَلَتِ السَّفِينَةُ إلى المِينَاءِ",
        "Пётр ведёт паром. Ёлка. район",
        "שָׁלוֹם לָעוֹלָם",
        "বাংলা ভাষা",
    ];
    let queries = [
        ("मुंबई", 1),
        ("हिन्दी", 1),
        ("السفينة", 2),
        ("السَّفِينَة", 2),
        ("الميناء", 2),
        ("الى", 2),
        ("Петр", 3),
        ("елка", 3),
        ("ведет", 3),
        ("שלום", 4),
        ("שָׁלוֹם", 4),
        ("ভাষা", 5),
    ];
    first(Language::English, &texts, &queries);
    first(Language::Auto, &texts, &queries);
    first(Language::Russian, &[NOTHING, texts[3]], &[("Петра", 1), ("ведёт", 1)]);
    first(Language::Arabic, &[NOTHING, texts[2]], &[("السفينة", 1), ("سفينة", 1)]);
    assert!(Texts::new(Language::None, &["मुंबई"]).found("मुबई").is_empty());
    assert!(Texts::new(Language::None, &["раион"]).found("район").is_empty());
}

#[test]
fn the_beginning_of_the_last_word_finds_it_where_asked() {
    let texts =
        ["The lighthouse keeper.", "Replication lag", "A light rain", "Running water", "猫が好き", "東京都"];
    let index = Texts::new(Language::English, &texts);
    assert_eq!(index.found("lighth"), [] as [u64; 0]);
    assert_eq!(index.begun("lighth"), [0]);
    assert_eq!(index.begun("lighthouses"), [0]);
    assert_eq!(index.begun("replicatio"), [1], "the stem is shorter than what is typed");
    assert_eq!(index.begun("runnin"), [3]);
    assert_eq!(index.begun("keeper repl")[0], 0);
    assert_eq!(index.begun("keeper repl").len(), 2);
    let mut both = index.begun("lig");
    both.sort_unstable();
    assert_eq!(both, [0, 2]);
    assert!(index.begun("lig ").is_empty(), "a space ends the word");
    assert_eq!(index.begun("rai"), [2]);
    assert!(index.begun("zzz").is_empty());
    // However many words begin so, a search is bounded.
    let many: Vec<String> = (0..3000).map(|n| format!("word{n:05}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(!Texts::new(Language::English, &many).begun("word").is_empty());
}

#[test]
fn each_document_is_analyzed_in_its_own_language() {
    let texts = [
        "The keeper of the lighthouse counted all the ships that were passing by in the night.",
        "Die Versicherungen gelten für alle Häuser am Hafen, und die Lotsen wissen davon nichts.",
        "Les gardiens du phare comptaient les navires qui passaient pendant la nuit.",
        "Смотрители маяков считали корабли, которые проходили ночью мимо берега.",
    ];
    let queries =
        [("ship", 0), ("Haus", 1), ("Versicherung", 1), ("navire", 2), ("gardien", 2), ("корабля", 3)];
    first(Language::Auto, &texts, &queries);
    // A document that names its language is not guessed.
    let dir = tempfile::tempdir().unwrap();
    let mut index = KeywordIndex::open(&dir.path().join("1"), Language::English).unwrap();
    let passage = KeywordPassage { point: 7, text: "Häuser".to_owned(), headings: Vec::new() };
    let language = Some(Language::German);
    index
        .add(0, &KeywordDocument { language, passages: vec![passage], ..KeywordDocument::default() })
        .unwrap();
    index.commit().unwrap();
    let found = index.reader().search("haus", 10, None).unwrap();
    assert_eq!(found.matches.len(), 1);
}

#[test]
fn what_a_query_says_whole_reaches_what_it_always_did() {
    // A text without end of nothing but the words: its share of the greatest score.
    let share = |text: &str, query: &str| {
        let index = Texts::new(Language::English, &[&text.repeat(60), NOTHING]);
        let found = index.index.reader().search(query, 1, None).unwrap();
        found.matches[0].score / found.ceiling
    };
    let plain = share("lighthouse keeper ", "lighthouse keeper");
    for (text, query) in [
        ("EM940-SK22 ", "EM940-SK22"),
        ("v4.11.2 ", "v4.11.2"),
        ("getUserName ", "getUserName"),
        ("résumé ", "résumé"),
        ("max_batch_size ", "max_batch_size"),
    ] {
        let share = share(text, query);
        assert!(share > 0.9 * plain, "{query}: {share} against {plain}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_spelling_of_a_word_finds_it(
        word in "[a-zA-Z]{2,9}|[a-zäöüéèñç]{2,9}|[А-Яа-яЁё]{2,9}|[α-ωά-ώ]{2,9}|[ぁ-ゖ]{1,5}|[가-힣]{1,5}|[一-龥]{1,4}|[ἀ-ἅ]{2}",
        language in prop::sample::select(vec![Language::English, Language::None, Language::German, Language::Auto]),
    ) {
        let text = format!("before {word} after.");
        let index = Texts::new(language, &[&text]);
        let wide: String = word.chars().map(|c| match c {
            '!'..='~' => char::from_u32(c as u32 + 0xfee0).unwrap(),
            c => c,
        }).collect();
        let hyphenated: String = word.chars().flat_map(|c| [c, '\u{ad}']).collect();
        let spellings = [
            word.nfc().collect::<String>(),
            word.nfd().collect(),
            word.nfkd().collect(),
            wide,
            word.to_lowercase(),
            hyphenated,
            format!("\u{200b}{word}\u{feff}"),
        ];
        for spelling in spellings {
            prop_assert_eq!(index.found(spelling.as_str()), [0], "{:?} of {:?}", spelling, word);
        }
    }

    #[test]
    fn any_text_is_indexed_and_any_query_answered(text in "\\PC{0,200}", query in "\\PC{0,40}") {
        for language in [Language::Auto, Language::German] {
            let index = Texts::new(language, &[&text, &query]);
            index.found(query.as_str());
            index.begun(&query);
        }
    }
}
