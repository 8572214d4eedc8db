//! What the host says of itself, as text.

use serde::Deserialize;

use crate::table::Table;

/// The host's document. What a host does not tell is shown as `-`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Top {
    machines: Machines,
    /// Calls that wait for a machine.
    waiting: u64,
    /// Asynchronous calls and events that are not done.
    queue: Option<u64>,
    functions: Vec<Function>,
}

/// Machines by what they do.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Machines {
    booting: u64,
    warm: u64,
    idle: u64,
    busy: u64,
    leaving: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Function {
    name: String,
    tenant: String,
    calls: u64,
    /// None before the first call.
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    errors: Option<u64>,
}

impl Top {
    /// The host in a few lines, then its functions, the most called first.
    pub(super) fn text(&self) -> String {
        let Machines { booting, warm, idle, busy, leaving } = &self.machines;
        let mut host = Table::new([
            "BOOTING",
            "WARM",
            "IDLE",
            "BUSY",
            "LEAVING",
            "CALLS WAITING",
            "EVENTS QUEUED",
        ]);
        let counts = [*booting, *warm, *idle, *busy, *leaving, self.waiting].map(Some);
        let [booting, warm, idle, busy, leaving, waiting] = counts.map(number);
        host.row([booting, warm, idle, busy, leaving, waiting, number(self.queue)]);
        let mut text = host.render();
        if self.functions.is_empty() {
            return text;
        }
        let mut functions: Vec<&Function> = self.functions.iter().collect();
        functions.sort_by(|a, b| {
            b.calls.cmp(&a.calls).then_with(|| (&a.tenant, &a.name).cmp(&(&b.tenant, &b.name)))
        });
        let mut table = Table::new(["FUNCTION", "TENANT", "CALLS", "ERRORS", "P50", "P99"]);
        for of in functions {
            let (calls, errors) = (of.calls.to_string(), number(of.errors));
            let (p50, p99) = (millis(of.p50_ms), millis(of.p99_ms));
            table.row([of.name.clone(), of.tenant.clone(), calls, errors, p50, p99]);
        }
        text.push('\n');
        text.push_str(&table.render());
        text
    }
}

fn number(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

fn millis(millis: Option<f64>) -> String {
    millis.map_or_else(|| "-".to_owned(), |millis| format!("{millis:.1} ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_called_function_stands_first() {
        let document = r#"{"machines":{"booting":1,"warm":2,"idle":0,"busy":3,"leaving":0},"waiting":4,
            "queue":5,"functions":[{"name":"a","tenant":"t","calls":1,"p50_ms":null,"p99_ms":null,"errors":1},
            {"name":"b","tenant":"t","calls":9,"p50_ms":1.25,"p99_ms":30,"errors":0}],"later":true}"#;
        let top: Top = serde_json::from_str(document).unwrap();
        assert_eq!(
            top.text(),
            "BOOTING  WARM  IDLE  BUSY  LEAVING  CALLS WAITING  EVENTS QUEUED\n\
             1        2     0     3     0        4              5\n\
             \n\
             FUNCTION  TENANT  CALLS  ERRORS  P50     P99\n\
             b         t       9      0       1.2 ms  30.0 ms\n\
             a         t       1      1       -       -\n"
        );
    }
}
