//! The license usage that this service reports: a few products, the same every day.

use serde_json::{Map, Value, json};

use super::Period;

/// Rows under named columns, written as JSON objects or as CSV.
pub(crate) struct Table {
    columns: &'static [&'static str],
    rows: Vec<Vec<Value>>,
}

impl Table {
    pub(crate) fn to_json(&self) -> Value {
        self.rows
            .iter()
            .map(|row| {
                let fields = self.columns.iter().map(|column| (*column).to_owned());
                Value::Object(fields.zip(row.iter().cloned()).collect::<Map<_, _>>())
            })
            .collect()
    }

    pub(crate) fn to_csv(&self) -> String {
        let mut csv = self.columns.join(",");
        csv.push('\n');
        for row in &self.rows {
            let cells: Vec<String> = row
                .iter()
                .map(|cell| match cell {
                    Value::String(text) if text.contains([',', '"']) => {
                        format!("\"{}\"", text.replace('"', "\"\""))
                    }
                    Value::String(text) => text.clone(),
                    other => other.to_string(),
                })
                .collect();
            csv.push_str(&cells.join(","));
            csv.push('\n');
        }
        csv
    }
}

pub(crate) fn products(period: Period) -> Table {
    let peak = period.end.to_string();
    Table {
        columns: &[
            "name",
            "id",
            "metricName",
            "metricQuantity",
            "metricPeakDate",
        ],
        rows: vec![
            vec![
                json!("IBM Cloud Pak for Data, Enterprise Edition"),
                json!("eb9998dcc5d24e3eb5b6fb488f750fe2"),
                json!("VIRTUAL_PROCESSOR_CORE"),
                json!(48),
                json!(peak),
            ],
            vec![
                json!("IBM watsonx.ai"),
                json!("77e8f9c3a3d94a4c8d7a1bd1f0c9b2ad"),
                json!("VIRTUAL_PROCESSOR_CORE"),
                json!(16),
                json!(peak),
            ],
        ],
    }
}

pub(crate) fn bundled_products(period: Period) -> Table {
    let peak = period.end.to_string();
    Table {
        columns: &[
            "productName",
            "productId",
            "cloudpakId",
            "cloudpakVersion",
            "cloudpakMetricName",
            "metricName",
            "metricPeakDate",
            "metricMeasuredQuantity",
            "metricConversion",
            "metricConvertedQuantity",
        ],
        rows: vec![vec![
            json!("Watson Machine Learning"),
            json!("5737e2d3c1b14f0f8e8f5f8a9d1c2b3a"),
            json!("eb9998dcc5d24e3eb5b6fb488f750fe2"),
            json!("5.2.2"),
            json!("VIRTUAL_PROCESSOR_CORE"),
            json!("VIRTUAL_PROCESSOR_CORE"),
            json!(peak),
            json!(144),
            json!("3:1"),
            json!(48),
        ]],
    }
}

pub(crate) fn services(period: Period) -> Table {
    Table {
        columns: &[
            "cloudpakId",
            "productId",
            "serviceName",
            "serviceId",
            "serviceMetricValue",
            "metricName",
            "metricDate",
        ],
        rows: vec![vec![
            json!("eb9998dcc5d24e3eb5b6fb488f750fe2"),
            json!("5737e2d3c1b14f0f8e8f5f8a9d1c2b3a"),
            json!("wml-deployments"),
            json!("3f1c1d0b5e6a4b7c9d8e7f6a5b4c3d2e"),
            json!(12),
            json!("VIRTUAL_PROCESSOR_CORE"),
            json!(period.end.to_string()),
        ]],
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn json_and_csv_say_the_same() {
        let day = date(2026, 1, 31);
        let table = products(Period {
            start: day,
            end: day,
        });
        assert_eq!(table.to_json()[0]["metricQuantity"], 48);
        let csv = table.to_csv();
        let mut lines = csv.lines();
        assert_eq!(
            lines.next(),
            Some("name,id,metricName,metricQuantity,metricPeakDate")
        );
        assert_eq!(
            lines.next(),
            Some(
                "\"IBM Cloud Pak for Data, Enterprise Edition\",eb9998dcc5d24e3eb5b6fb488f750fe2,VIRTUAL_PROCESSOR_CORE,48,2026-01-31"
            )
        );
    }
}
