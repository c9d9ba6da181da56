//! `cargo xtask dashboard`: writes `deploy/grafana/fanfare.json` from its table. The tests compare the two, and have `promtool` look at
//! all that Prometheus is asked there and in the rules for alerts.

mod table;
#[cfg(test)]
mod tests;

use serde_json::{Value, json};

use crate::repository;
use table::{Panel, ROWS, Shape};

const FILE: &str = "deploy/grafana/fanfare.json";

/// What stands for `$S` and `$R` in Grafana.
const SELECTOR: &str = "job=\"$job\",instance=~\"$instance\"";
const WINDOW: &str = "$__rate_interval";

pub(crate) fn write() -> Result<(), String> {
    std::fs::write(repository::root().join(FILE), text()).map_err(|error| format!("cannot write {FILE}: {error}"))
}

fn text() -> String {
    let mut text = serde_json::to_string_pretty(&dashboard()).expect("it is JSON");
    text.push('\n');
    text
}

fn dashboard() -> Value {
    let (mut panels, mut y) = (Vec::new(), 0);
    for (title, row) in ROWS {
        let id = panels.len() + 1;
        panels.push(
            json!({ "id": id, "type": "row", "title": title, "collapsed": false, "gridPos": place(0, y, 24, 1) }),
        );
        y += 1;
        let (width, height) = if row.iter().all(|panel| panel.shape == Shape::Number) { (3, 4) } else { (8, 8) };
        let in_line = 24 / width;
        for (number, shown) in row.iter().enumerate() {
            let (column, line) = (number % in_line, number / in_line);
            let grid = place(column * width, y + line * height, width, height);
            panels.push(panel(panels.len() + 1, shown, &grid));
        }
        y += row.len().div_ceil(in_line) * height;
    }
    json!({
        "uid": "fanfare",
        "title": "Fanfare",
        "tags": ["fanfare"],
        "schemaVersion": 39,
        "editable": true,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": { "from": "now-1h", "to": "now" },
        "templating": { "list": variables() },
        "panels": panels,
    })
}

fn variables() -> Value {
    let source = json!({ "type": "prometheus", "uid": "${datasource}" });
    let of_labels = |name: &str, query: &str, has_all: bool| {
        json!({
            "name": name, "label": name, "type": "query", "datasource": source, "query": query, "refresh": 2, "sort": 1,
            "includeAll": has_all, "multi": has_all,
            "current": if has_all { json!({ "text": "All", "value": "$__all" }) } else { json!({}) },
        })
    };
    let quantiles = ["0.5", "0.9", "0.99", "0.999"];
    let options: Vec<_> =
        quantiles.iter().map(|q| json!({ "text": q, "value": q, "selected": *q == "0.99" })).collect();
    json!([
        { "name": "datasource", "label": "datasource", "type": "datasource", "query": "prometheus" },
        of_labels("job", "label_values(fanfare_build_info, job)", false),
        of_labels("instance", "label_values(fanfare_build_info{job=\"$job\"}, instance)", true),
        {
            "name": "quantile", "label": "quantile", "type": "custom", "query": quantiles.join(","), "options": options,
            "current": { "text": "0.99", "value": "0.99" },
        },
    ])
}

fn panel(id: usize, panel: &Panel, grid: &Value) -> Value {
    let Panel { title, unit, shape, queries } = panel;
    let source = json!({ "type": "prometheus", "uid": "${datasource}" });
    let targets: Vec<_> = queries
        .iter()
        .zip('A'..='Z')
        .map(|((expression, legend), name)| {
            json!({
                "refId": name.to_string(),
                "datasource": source,
                "expr": filled(expression, SELECTOR, WINDOW),
                "legendFormat": legend,
                "format": if *shape == Shape::Heat { "heatmap" } else { "time_series" },
            })
        })
        .collect();
    let (kind, options) = match shape {
        Shape::Number => ("stat", json!({ "reduceOptions": { "calcs": ["lastNotNull"] }, "graphMode": "area" })),
        Shape::Lines => (
            "timeseries",
            json!({ "legend": { "displayMode": "list", "placement": "bottom" }, "tooltip": { "mode": "multi", "sort": "desc" } }),
        ),
        Shape::Heat => ("heatmap", json!({ "calculate": false, "yAxis": { "unit": unit } })),
    };
    json!({
        "id": id,
        "type": kind,
        "title": title,
        "datasource": source,
        "gridPos": grid,
        "fieldConfig": { "defaults": { "unit": unit, "min": 0 }, "overrides": [] },
        "options": options,
        "targets": targets,
    })
}

fn filled(expression: &str, selector: &str, window: &str) -> String {
    expression.replace("$S", selector).replace("$R", window)
}

fn place(x: usize, y: usize, w: usize, h: usize) -> Value {
    json!({ "x": x, "y": y, "w": w, "h": h })
}
