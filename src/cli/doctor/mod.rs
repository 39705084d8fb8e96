//! `trove doctor`: looks at everything that a server needs, and says how to mend what is wrong. It needs no server, and
//! changes nothing.

mod data;
mod machine;
mod memory;
mod models;
mod network;
mod protection;
mod settings;

use anyhow::Result;
use console::Style;
use serde_json::json;

use super::args::ConnectionArgs;
use super::config::ServeArgs;
use super::failure::Usage;
use super::output::Text;
use super::{EXIT_FAILED, EXIT_OK, output};
use crate::private;

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// As it should be.
    Ok,
    /// A server runs, but there is something to know.
    Warning,
    /// A server does not start, or does not do all it should.
    Problem,
}

impl Finding {
    fn as_str(self) -> &'static str {
        match self {
            Finding::Ok => "ok",
            Finding::Warning => "warning",
            Finding::Problem => "problem",
        }
    }
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// How it is.
    pub finding: Finding,
    /// What was found.
    pub message: String,
    /// How to mend it.
    pub remedy: Option<String>,
}

/// The lines of a report, in order.
#[derive(Debug, Default)]
pub struct Report(Vec<Check>);

impl Report {
    fn ok(&mut self, name: &str, message: impl Into<String>) {
        self.add(name, Finding::Ok, message.into(), None);
    }

    fn warning(&mut self, name: &str, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(name, Finding::Warning, message.into(), Some(remedy.into()));
    }

    fn problem(&mut self, name: &str, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(name, Finding::Problem, message.into(), Some(remedy.into()));
    }

    fn add(&mut self, name: &str, finding: Finding, message: String, remedy: Option<String>) {
        self.0.push(Check { name: name.to_owned(), finding, message, remedy });
    }

    fn count(&self, finding: Finding) -> usize {
        self.0.iter().filter(|check| check.finding == finding).count()
    }

    fn print(&self, json: bool) -> Result<()> {
        let (problems, warnings) = (self.count(Finding::Problem), self.count(Finding::Warning));
        if json {
            let checks: Vec<_> = self
                .0
                .iter()
                .map(|check| {
                    json!({"name": check.name, "finding": check.finding.as_str(), "message": check.message,
                        "remedy": check.remedy})
                })
                .collect();
            return output::print_json(
                &json!({"checks": checks, "problems": problems, "warnings": warnings}),
            );
        }
        let widest = self.0.iter().map(|check| check.name.len()).max().unwrap_or_default();
        for check in &self.0 {
            let finding = format!("{:<7}", check.finding.as_str());
            let style = match check.finding {
                Finding::Ok => Style::new().green(),
                Finding::Warning => Style::new().yellow(),
                Finding::Problem => Style::new().red(),
            };
            let told = format!("  {:<widest$}  {}", check.name, check.message);
            output::line(Text::new().styled(&style, finding).plain(told))?;
            if let Some(remedy) = &check.remedy {
                output::line(output::dim(format!("{:9}{:widest$}  mend: {remedy}", "", "")))?;
            }
        }
        output::line(format!("{problems} problems, {warnings} warnings"))
    }
}

/// Checks what a server with these settings would find. Exit code 1 where there is a problem.
pub async fn run(json: bool, args: &ServeArgs, connection: &ConnectionArgs) -> Result<i32> {
    let flags = args.flags().map_err(Usage)?;
    let mut report = Report::default();
    // A look at the store can make files in it.
    private::set_umask();
    machine::check(&mut report);
    if let Some(config) = settings::check(&mut report, args.config.as_deref(), &flags) {
        machine::open_files(&mut report, &config);
        let server = network::check(&mut report, &config, connection).await;
        let looked = tokio::task::spawn_blocking(move || {
            protection::check(&mut report, &config);
            data::check(&mut report, &config, server);
            let caches = models::check(&mut report, &config);
            memory::check(&mut report, &config, caches);
            (report, config)
        });
        let config;
        (report, config) = looked.await?;
        models::check_extraction(&mut report, &config).await;
    }
    report.print(json)?;
    Ok(if report.count(Finding::Problem) == 0 { EXIT_OK } else { EXIT_FAILED })
}
