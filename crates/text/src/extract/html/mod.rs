//! Text with headings out of pages of HTML, and out of pieces of it.

mod article;
mod blocks;
mod visible;

use std::collections::HashSet;

use scraper::{ElementRef, Html, Selector};

use super::{Builder, metadata};
use blocks::{Block, Outline, Rules};
use trove_core::domain::{Extracted, MetadataValue};
use trove_core::error::Result;

/// A `main` element of fewer bytes of text may be a place that only a script fills.
const MIN_MAIN_BYTES: usize = 500;

/// Reads a page: its content, without what surrounds it.
pub(super) fn extract(source: &str) -> Result<Extracted> {
    let page = Html::parse_document(source);
    let mut builder = Builder::default();
    describe(&page, &mut builder);
    let blocks = content(&page, source);
    add(&blocks, &mut builder);
    let title = title_of(&page).or_else(|| builder.first_heading());
    builder.finish(title)
}

/// Reads a piece of HTML into a document: all that can be seen of it, with the addresses of its links.
pub(super) fn extract_into(source: &str, builder: &mut Builder) {
    let page = Html::parse_document(source);
    let rules = Rules { is_page: false, hidden: false, addresses: true };
    let outline = Outline::of(&page, visible::hidden_by_sheets(&page));
    let mut blocks = blocks::read(page.root_element(), &outline, rules, source.len());
    if blocks.is_empty() {
        blocks = blocks::read(page.root_element(), &outline, Rules { hidden: true, ..rules }, source.len());
    }
    add(&blocks, builder);
}

fn add(blocks: &[Block], builder: &mut Builder) {
    for block in blocks {
        match block {
            Block::Heading(level, text) => builder.heading(*level, text),
            Block::Text { text, .. } => builder.block(text),
            Block::Table { table, .. } => builder.table(table),
        }
    }
}

/// The blocks of a page's content. Where a rule would leave nothing, it does not hold.
fn content(page: &Html, source: &str) -> Vec<Block> {
    let hidden = visible::hidden_by_sheets(page);
    let strict = Rules { is_page: true, hidden: false, addresses: false };
    let outline = Outline::of(page, hidden);
    let blocks = regions(page, &outline, strict, source.len());
    if !blocks.is_empty() {
        return if outline.is_deep() { blocks } else { article::choose(blocks, source) };
    }
    let outline = Outline::of(page, HashSet::new());
    let rules = [Rules { is_page: false, ..strict }, Rules { is_page: false, hidden: true, ..strict }];
    for rules in rules {
        let blocks = blocks::read(page.root_element(), &outline, rules, source.len());
        if !blocks.is_empty() {
            return blocks;
        }
    }
    without_scripts(page, source.len())
}

/// What the page's `main` elements hold, or the whole page where that is little.
fn regions(page: &Html, outline: &Outline, rules: Rules, bytes: usize) -> Vec<Block> {
    let whole = blocks::read(page.root_element(), outline, rules, bytes);
    let mut inner = Vec::new();
    let is_nested =
        |main: &ElementRef<'_>| main.ancestors().any(|node| node.value().as_element().is_some_and(is_main));
    for main in all(page, "main, [role=main]").into_iter().filter(|main| !is_nested(main)) {
        let hides = |node: ego_tree::NodeRef<'_, scraper::Node>| {
            outline.hidden.contains(&node.id()) || node.value().as_element().is_some_and(visible::is_hidden)
        };
        if !hides(*main) && !main.ancestors().any(hides) {
            inner.extend(blocks::read(main, outline, rules, bytes));
        }
    }
    let bytes = |blocks: &[Block]| blocks.iter().map(|block| block.measure().0).sum::<usize>();
    let (inside, all) = (bytes(&inner), bytes(&whole));
    let is_enough = inside * 5 >= all * 2 || (inside >= MIN_MAIN_BYTES && inside * 10 >= all);
    if inside > 0 && is_enough { inner } else { whole }
}

fn is_main(element: &scraper::node::Element) -> bool {
    element.name() == "main" || element.attr("role") == Some("main")
}

/// What a page shows where no script runs.
fn without_scripts(page: &Html, bytes: usize) -> Vec<Block> {
    let rules = Rules { is_page: false, hidden: false, addresses: false };
    let mut blocks = Vec::new();
    for noscript in all(page, "body noscript") {
        let inner = Html::parse_document(&noscript.text().collect::<String>());
        let outline = Outline::of(&inner, HashSet::new());
        blocks.extend(blocks::read(inner.root_element(), &outline, rules, bytes));
    }
    blocks
}

fn all<'a>(page: &'a Html, selector: &str) -> Vec<ElementRef<'a>> {
    Selector::parse(selector).map(|selector| page.select(&selector).collect()).unwrap_or_default()
}

/// The page's title; that of an icon is none.
fn title_of(page: &Html) -> Option<String> {
    let is_of_page = |title: &ElementRef<'_>| {
        !title.ancestors().any(|node| node.value().as_element().is_some_and(|e| e.name() == "svg"))
    };
    let titles = all(page, "title").into_iter().filter(is_of_page);
    let mut titles =
        titles.map(|title| title.text().collect::<String>()).filter(|title| !title.trim().is_empty());
    titles.next().or_else(|| {
        let names = ["og:title", "twitter:title", "dc.title", "dcterms.title", "title"];
        names.iter().find_map(|name| meta(page, name))
    })
}

/// What a `meta` element of a name says.
fn meta(page: &Html, name: &str) -> Option<String> {
    all(page, "meta[content]").into_iter().find_map(|meta| {
        let named = [meta.attr("name"), meta.attr("property"), meta.attr("itemprop")];
        let is_it = named.into_iter().flatten().any(|of| of.eq_ignore_ascii_case(name));
        let content = meta.attr("content").map(str::trim).filter(|content| !content.is_empty())?;
        is_it.then(|| content.to_owned())
    })
}

/// Keeps what a page says of itself in its `meta` elements.
fn describe(page: &Html, builder: &mut Builder) {
    let first = |names: &[&str]| names.iter().find_map(|name| meta(page, name));
    if let Some(description) = first(&["description", "og:description", "dc.description"]) {
        builder.tell("description", MetadataValue::String(description));
    }
    if let Some(author) = first(&["author", "article:author", "dc.creator"]) {
        builder.tell("author", MetadataValue::String(author));
    }
    if let Some(keywords) = first(&["keywords"]) {
        let keywords = keywords.split(',').map(|word| word.trim().to_owned()).filter(|word| !word.is_empty());
        builder.tell("keywords", MetadataValue::StringList(keywords.collect()));
    }
    if let Some(date) = first(&["article:published_time", "date", "dc.date", "datepublished"]) {
        builder.tell("date", metadata::scalar(&date));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(source: &str) -> String {
        extract(source).unwrap().text
    }

    #[test]
    fn blocks_and_headings() {
        let found = extract(
            "<title> T </title><nav>no</nav><h1>A</h1><p>x <b>y</b>z\n w<br>v</p><script>no</script>\
             <h2>B</h2><pre>a\n  b</pre><table><tr><td>1<td>2</table>",
        )
        .unwrap();
        assert_eq!(found.title.as_deref(), Some("T"));
        assert_eq!(found.text, "A\n\nx yz w\nv\n\nB\n\na\n  b\n\n1\t2");
        assert_eq!(found.sections[1].headings, ["A", "B"]);
    }

    #[test]
    fn deep_nesting_is_read() {
        let source = format!("{}deep", "<div>".repeat(20_000));
        assert_eq!(extract(&source).unwrap().text, "deep");
        let tables = format!("{}deep", "<table><tr><td>".repeat(5_000));
        assert_eq!(extract(&tables).unwrap().text, "deep");
        let heads = format!("{}deep", "<header><h1>".repeat(2_000));
        assert_eq!(extract(&heads).unwrap().text, "deep");
    }

    #[test]
    fn the_head_of_an_article_is_content_and_that_of_a_page_is_not() {
        let found = extract(
            "<header><a href=/>Club</a></header><main><article><header><h1>Hulls</h1><p>Lead.</p></header>\
             <p>Text.</p><footer>By Ann</footer></article></main><footer>Imprint</footer>",
        )
        .unwrap();
        assert_eq!(found.text, "Hulls\n\nLead.\n\nText.\n\nBy Ann");
        let found =
            extract("<header><a href=/>Club</a><h1><div>Hulls</div></h1></header><p>Text.</p>").unwrap();
        assert_eq!(
            (found.text.as_str(), found.sections[0].headings[0].as_str()),
            ("Hulls\n\nText.", "Hulls")
        );
    }

    #[test]
    fn what_cannot_be_seen_is_not_read() {
        let hidden = "<style>.x{display:none}</style><p>seen</p><p hidden>no</p><p style='display: none'>no</p><p class=x>no</p>\
            <i aria-hidden=true>no</i><dialog>no</dialog><template>no</template><noscript>no</noscript>\
            <span class=sr-only>no</span><input type=hidden value=no><p style=font-size:0>no";
        assert_eq!(text(hidden), "seen");
        assert_eq!(
            text("<details><summary>Q</summary>A</details><dialog open>D</dialog><p hidden=until-found>F"),
            "Q\n\nA\n\nD\n\nF"
        );
        // Nothing is seen of a page that only its script shows; that is better than nothing.
        assert_eq!(text("<body style='opacity:0'><p>all"), "all");
        assert_eq!(text("<nav>Only links</nav>"), "Only links");
        assert_eq!(text("<body><noscript><p>Plain page</p></noscript>"), "Plain page");
    }

    #[test]
    fn a_main_element_without_text_hides_nothing() {
        assert_eq!(text("<main id=app></main><div><p>High water</p></div>"), "High water");
        assert_eq!(text("<main hidden>loading</main><article>Dock</article>"), "Dock");
        assert_eq!(
            text("<main>Wait.</main><p>High water at Hull is at four on Monday.</p>"),
            "Wait.\n\nHigh water at Hull is at four on Monday."
        );
        assert_eq!(
            text("<p>menu</p><main>One is long enough.</main><div role=main>Two as well.</div>"),
            "One is long enough.\n\nTwo as well."
        );
    }

    #[test]
    fn words_stay_apart_and_whole() {
        let form =
            "<select><option>Bergen<option>Molde</select><button>Search</button><button>Reset</button>";
        assert_eq!(text(form), "Bergen\nMolde Search Reset");
        assert_eq!(text("<a href=a>One</a><a href=b>Two</a> <b>T</b>hree"), "One Two Three");
        assert_eq!(
            text("<ruby>灯台<rp>(</rp><rt>とうだい</rt><rp>)</rp></ruby><ruby>守<rt>もり</rt></ruby>は"),
            "灯台守は"
        );
        assert_eq!(
            text("Lindqvist<sup>1,2</sup>, 10<sup>6</sup> on the 1<sup>st</sup>, H<sub>2</sub>O"),
            "Lindqvist^1,2, 10^6 on the 1st, H2O"
        );
        assert_eq!(text("Donau&shy;dampf<wbr>schiff"), "Donaudampfschiff");
        assert_eq!(
            text("<figure><img alt='Wiring diagram'><figcaption>Figure 3</figcaption></figure>"),
            "Wiring diagram\n\nFigure 3"
        );
        assert_eq!(text("<svg><title>Icon</title><text>Pump</text><text>Valve</text></svg>"), "Pump Valve");
        assert_eq!(text("<dl><dt>Draught</dt><dd>2 m</dd><dt>Beam<dd>4 m</dl>"), "Draught\n2 m\n\nBeam\n4 m");
    }

    #[test]
    fn rows_are_statements() {
        let table = "<table><caption>Cranes</caption><thead><tr><th>Name<th>Lift</thead><tr><td rowspan=2><p>North</p><td><ul><li>11 t<li>12 t</ul>\
            <tr><td>25<br>t<tr><td>South<td>9 t</table>";
        assert_eq!(text(table), "Cranes\n\nName\tLift\n\nNorth\t11 t 12 t\n\nNorth\t25 t\n\nSouth\t9 t");
        let layout = "<table><tr><td><h2>A</h2><p>one</p><td><p>two</p></table>";
        assert_eq!(text(layout), "A\n\none\n\ntwo");
    }

    #[test]
    fn spanning_cells_take_no_more_room_than_the_page() {
        let rows = "<tr><td>x".repeat(1000);
        let source =
            format!("<table><tr>{}<td>x{rows}</table>", "<td rowspan=60000>".to_owned() + &"y".repeat(150));
        assert!(text(&source).len() < 3 * source.len());
    }

    #[test]
    fn titles() {
        let title = |source: &str| extract(source).unwrap().title;
        assert_eq!(title("<svg><title>Icon</title></svg><h1>Rota</h1>x").as_deref(), Some("Rota"));
        assert_eq!(
            title("<title> </title><meta property=og:title content=Rules><h1>H</h1>x").as_deref(),
            Some("Rules")
        );
        assert_eq!(title("<h2>H</h2>x").as_deref(), Some("H"));
        assert_eq!(title("x"), None);
    }

    #[test]
    fn pages_say_what_they_are() {
        let found = extract(
            "<meta name=description content='Rules of ballast'><meta name=keywords content='a, b,'>\
             <meta property=article:published_time content=1970-01-02><p>x",
        )
        .unwrap();
        assert_eq!(found.metadata["description"], MetadataValue::String("Rules of ballast".to_owned()));
        assert_eq!(
            found.metadata["keywords"],
            MetadataValue::StringList(vec!["a".to_owned(), "b".to_owned()])
        );
        assert_eq!(found.metadata["date"], MetadataValue::Timestamp(86_400, 0));
    }

    #[test]
    fn the_article_of_a_long_page_is_read_without_what_stands_around_it() {
        let paragraph = |n: u32| {
            format!(
                "<p>Paragraph {n} says what the harbour master wrote, at some length, about the ice, the tide and the boats.</p>"
            )
        };
        let article: String = (0..30).map(paragraph).collect();
        let links: String =
            (0..60).map(|n| format!("<li><a href=/{n}>Another story of number {n}</a></li>")).collect();
        let table = "<table><tr><th>Boat<th>Draught</tr><tr><td>Kestrel<td>2.0 m</table>";
        let page = format!(
            "<body><div class=menu><ul>{links}</ul></div><div class=content><h1>Ice</h1>{article}{table}{article}</div>\
             <div class=sidebar><h3>Related</h3><ul>{links}</ul></div>"
        );
        let found = text(&page);
        assert!(
            found.contains("Paragraph 0 says")
                && found.contains("Paragraph 29 says")
                && found.contains("Kestrel\t2.0 m")
        );
        assert!(found.starts_with("Ice") && !found.contains("Another story"), "{found}");
        // A page of short entries has no article, and is read whole.
        let list: String = (0..200).map(|n| format!("<li>Entry {n} of the list</li>")).collect();
        let found = text(&format!("<ul>{list}</ul>"));
        assert!(found.contains("Entry 0 of") && found.contains("Entry 199 of"));
    }
}
