use std::io::Read;
use atoll_policy::shell::*;
fn main() {
    let mut all = String::new();
    std::io::stdin().read_to_string(&mut all).unwrap();
    let scripts: Vec<String> = serde_json::from_str(&all).unwrap();
    let out: Vec<serde_json::Value> = scripts.iter().map(|s| {
        let a = analyse(s, "/tmp/fuzz/work", None);
        let commands: Vec<serde_json::Value> = a.commands.iter().map(|c| serde_json::Value::Array(c.words.iter().map(|w| {
            serde_json::Value::Array(w.pieces.iter().map(|p| match p { Piece::Text(t) => serde_json::json!(["t", t]), Piece::Segment => serde_json::json!(["s"]), Piece::Any => serde_json::json!(["a"]), Piece::Words => serde_json::json!(["w"]) }).collect())
        }).collect())).collect();
        serde_json::json!({"commands": commands, "problems": a.problems})
    }).collect();
    println!("{}", serde_json::to_string(&out).unwrap());
}
