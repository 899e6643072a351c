use serde_json::json;
use silverback_testkit::{gateway::Gateway, upstream::Upstream};
use crate::Outcome;

#[tokio::test]
async fn smoke() -> Outcome {
    let t = std::time::Instant::now();
    let up = Upstream::start().await?;
    eprintln!("{:?}", t.elapsed());
    let gw = Gateway::start().await?;
    eprintln!("start {:?}", t.elapsed());
    gw.service("s", &up).paths(["/"]).plugin("key-auth", json!({})).create().await?;
    eprintln!("create {:?}", t.elapsed());
    let r = gw.get("/x").send().await?;
    eprintln!("get {:?} {} {:?}", t.elapsed(), r.status, r);
    let b = gw.another().await?;
    eprintln!("another {:?}", t.elapsed());
    gw.consumer("c", "k").await?;
    let r = b.get("/x").header("apikey", "k").send().await?;
    eprintln!("get {:?} {} {}", t.elapsed(), r.status, r.text());
    drop(b);
    eprintln!("drop {:?}", t.elapsed());
    drop(gw);
    eprintln!("drop {:?}", t.elapsed());
    Ok(())
}
