//! The phone: what it shows, and that its buttons do what they say.

use serde_json::json;

use crate::merchant::Merchant;

/// Parameters as a browser encodes them.
fn with(url: &str, parameters: &[(&str, &str)]) -> reqwest::Url {
    reqwest::Url::parse_with_params(url, parameters).unwrap()
}

#[tokio::test]
async fn a_customer_looks_cancels_and_pays() {
    let mut merchant = Merchant::new().await;
    let mut order = merchant.native("hf000001");
    order["description"] = json!("陶艺课 <b>\"1\"</b>");
    let answer = merchant.post("/v3/pay/transactions/native", &order).await.json();
    let code_url = answer["code_url"].as_str().unwrap();
    let phone = format!("{}/phone", merchant.wechat.url);

    let page = merchant.http.get(with(&phone, &[("code_url", code_url)])).send().await.unwrap();
    assert_eq!(page.status(), 200);
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    let html = page.text().await.unwrap();
    for expected in ["陶艺课 &lt;b&gt;&quot;1&quot;&lt;/b&gt;", "200.00", "id=\"pay\"", "id=\"cancel\"", "/phone.css"]
    {
        assert!(html.contains(expected), "{expected} is not in {html}");
    }
    assert!(!html.contains("<script") && !html.contains("style="));

    let cancelled = merchant.http.post(format!("{phone}/cancel")).send().await.unwrap().text().await.unwrap();
    assert!(cancelled.contains("id=\"result\"") && cancelled.contains("已取消"));
    assert_eq!(merchant.query("hf000001").await.json()["trade_state"], "NOTPAY");

    let form = [("code_url", code_url), ("openid", "oScanner")];
    for (status, said) in [(200, "支付成功"), (409, "请勿重复支付")] {
        let result = merchant
            .http
            .post(format!("{phone}/pay"))
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(with(&phone, &form).query().unwrap().to_owned())
            .send()
            .await
            .unwrap();
        assert_eq!(result.status(), status);
        let html = result.text().await.unwrap();
        assert!(html.contains("id=\"result\"") && html.contains(said), "{html}");
    }
    assert_eq!(merchant.callback().await.opened()["payer"]["openid"], "oScanner");
    let dead = merchant.http.get(with(&phone, &[("code_url", "nonsense")])).send().await.unwrap();
    assert_eq!(dead.status(), 409);
}
