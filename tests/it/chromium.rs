//! A real browser for a test: one chromedriver of its own, screens of a phone and a desk, and what the browser
//! complained about. Works on what a customer sees, never on the page's inner state.

use std::{
    cell::{Cell, RefCell},
    fmt,
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use fantoccini::{
    Client, ClientBuilder, Locator,
    actions::{InputSource, MOUSE_BUTTON_LEFT, MouseActions, PointerAction},
    elements::Element,
    wd::WebDriverCompatibleCommand,
};
use reqwest::{Method, Url};
use serde_json::{Value, json};

use crate::stack::{Stack, free_port, until};

/// A size to look at the page in, in CSS pixels.
#[derive(Clone, Copy)]
pub(crate) struct Screen {
    pub name: &'static str,
    width: u32,
    height: u32,
    /// Device pixels per CSS pixel; a mobile one has touch, too.
    ratio: u32,
    mobile: bool,
}

impl Screen {
    /// For the DevTools protocol.
    fn metrics(&self, height: &Value) -> Value {
        json!({ "width": self.width, "height": height, "deviceScaleFactor": self.ratio, "mobile": self.mobile })
    }
}

pub(crate) const PHONE: Screen = Screen { name: "phone", width: 390, height: 844, ratio: 2, mobile: true };
pub(crate) const DESKTOP: Screen = Screen { name: "desktop", width: 1280, height: 800, ratio: 1, mobile: false };
pub(crate) const SCREENS: [Screen; 2] = [PHONE, DESKTOP];

/// A running chromedriver; its browsers end with it.
pub(crate) struct Chromium {
    driver: Child,
    url: String,
    program: PathBuf,
    /// Beside the stack's logs.
    directory: PathBuf,
    opened: Cell<u32>,
}

impl Chromium {
    /// Starts a chromedriver whose files and log lie beside those of `stack`.
    pub(crate) async fn start(stack: &Stack) -> Self {
        let program = installed("CHROMIUM", "/usr/bin/chromium");
        let chromedriver = installed("CHROMEDRIVER", "/usr/bin/chromedriver");
        let directory = stack.artifact("");
        let profiles = directory.join("profiles");
        // The profiles of the run before; a new directory each time would pile up.
        let _ = std::fs::remove_dir_all(&profiles);
        std::fs::create_dir_all(&profiles).expect("a directory for profiles");
        let port = free_port().await;
        let driver = Command::new(&chromedriver)
            .arg(format!("--port={port}"))
            .arg(format!("--log-path={}", stack.artifact("chromedriver.log").display()))
            // A customer's device stands where the courses take place.
            .env("TZ", "Asia/Shanghai")
            .env("TMPDIR", &profiles)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", chromedriver.display()));
        let chromium =
            Self { driver, url: format!("http://127.0.0.1:{port}"), program, directory, opened: Cell::new(0) };
        until("chromedriver is ready", async || {
            let answer = stack.http.get(format!("{}/status", chromium.url)).send().await.ok()?;
            let status: Value = answer.json().await.ok()?;
            status["value"]["ready"].as_bool().filter(|ready| *ready)
        })
        .await;
        chromium
    }

    /// A fresh browser, as of a customer who was never here.
    pub(crate) async fn open(&self, screen: Screen) -> Browser {
        self.opened.set(self.opened.get() + 1);
        let profile = self.directory.join("profiles").join(self.opened.get().to_string());
        let mut flags = vec![format!("--user-data-dir={}", profile.display())];
        flags.extend(
            [
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                // A click goes where its target was a moment before: nothing may still glide.
                "--force-prefers-reduced-motion",
            ]
            .map(String::from),
        );
        let metrics = json!({
            "width": screen.width, "height": screen.height, "pixelRatio": screen.ratio,
            "touch": screen.mobile, "mobile": screen.mobile,
        });
        let capabilities = json!({
            "goog:chromeOptions": {
                "binary": self.program, "args": flags, "mobileEmulation": { "deviceMetrics": metrics },
            },
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let Value::Object(capabilities) = capabilities else { unreachable!("an object above") };
        let client = ClientBuilder::rustls()
            .expect("a connector")
            .capabilities(capabilities)
            .connect(&self.url)
            .await
            .unwrap_or_else(|error| panic!("Chromium does not start: {error}"));
        Browser { client, screen, directory: self.directory.clone() }
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        // Killed outright, it would leave its browsers behind.
        if let Ok(mut connection) = TcpStream::connect(self.url.trim_start_matches("http://")) {
            let _ = connection.write_all(b"GET /shutdown HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
            let _ = connection.read_to_end(&mut Vec::new());
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Where a program is: as the environment says, else where Debian puts it.
fn installed(variable: &str, usual: &str) -> PathBuf {
    let path = PathBuf::from(std::env::var(variable).unwrap_or_else(|_| usual.to_owned()));
    assert!(
        path.exists(),
        "no browser: {} is not there. `./dev test` installs one; or install the packages chromium and \
         chromium-driver, or say in {variable} where it is",
        path.display()
    );
    path
}

/// One browser and its tabs.
pub(crate) struct Browser {
    pub client: Client,
    pub screen: Screen,
    directory: PathBuf,
}

impl Browser {
    /// The first element that matches, once a customer can see it.
    pub(crate) async fn see(&self, css: &str) -> Element {
        until(&format!("{css} is seen"), async || {
            let element = self.client.find(Locator::Css(css)).await.ok()?;
            element.is_displayed().await.ok()?.then_some(element)
        })
        .await
    }

    /// Its text, as far as it can be seen.
    pub(crate) async fn text(&self, css: &str) -> String {
        self.see(css).await.text().await.expect("a text")
    }

    /// Waits until the first element that matches says `wanted`.
    pub(crate) async fn until_says(&self, css: &str, wanted: &str) {
        let said = RefCell::default();
        let what = fmt::from_fn(|f| write!(f, "{css} says {wanted}; it says {:?}", said.borrow()));
        until(what, async || {
            let element = self.client.find(Locator::Css(css)).await.ok()?;
            let text = element.text().await.ok()?;
            let seen = text.contains(wanted).then_some(());
            said.replace(text);
            seen
        })
        .await;
    }

    /// Clicks where a finger would: what is covered, moving or disabled waits or fails.
    pub(crate) async fn click(&self, css: &str) {
        until(&format!("{css} is clicked"), async || {
            let element = self.client.find(Locator::Css(css)).await.ok()?;
            if !element.is_enabled().await.ok()? {
                return None;
            }
            element.click().await.ok()
        })
        .await;
    }

    /// Clicks twice as fast as a mouse can.
    pub(crate) async fn double_click(&self, css: &str) {
        let element = self.see(css).await;
        let (down, up) =
            (PointerAction::Down { button: MOUSE_BUTTON_LEFT }, PointerAction::Up { button: MOUSE_BUTTON_LEFT });
        let to = PointerAction::MoveToElement { element, duration: None, x: 0.0, y: 0.0 };
        let mouse = MouseActions::new("mouse".into()).then(to);
        let mouse = mouse.then(down.clone()).then(up.clone()).then(down).then(up);
        self.client.perform_actions(mouse).await.expect("a double click");
    }

    pub(crate) async fn attribute(&self, css: &str, name: &str) -> String {
        self.see(css).await.attr(name).await.expect("an attribute's value").unwrap_or_default()
    }

    pub(crate) async fn count(&self, css: &str) -> usize {
        self.client.find_all(Locator::Css(css)).await.expect("elements").len()
    }

    /// What an expression of JavaScript is worth in the page.
    pub(crate) async fn value(&self, expression: &str) -> Value {
        self.client.execute(&format!("return {expression};"), Vec::new()).await.expect("a value")
    }

    /// Saves the whole page as a picture, which must not be wider than the screen.
    pub(crate) async fn picture(&self, name: &str) {
        let wider = self.value("document.documentElement.scrollWidth - document.documentElement.clientWidth").await;
        assert_eq!(wider, 0, "{name} is wider than the {}", self.screen.name);
        // A picture of a movement would be another one each time.
        self.value(
            "Promise.all(document.getAnimations()
                .filter((one) => one.effect.getTiming().iterations !== Infinity)
                .map((one) => one.finished.catch(() => {}))).then(() => true)",
        )
        .await;
        // As tall as the page, so that what stays at the screen's lower edge is there and not in the middle.
        let height = self.value("document.documentElement.scrollHeight").await;
        self.devtools("Emulation.setDeviceMetricsOverride", self.screen.metrics(&height)).await;
        self.glance(name).await;
        self.devtools("Emulation.setDeviceMetricsOverride", self.screen.metrics(&json!(self.screen.height))).await;
    }

    /// Saves what fits on the screen as a picture.
    pub(crate) async fn glance(&self, name: &str) {
        let answer = self.devtools("Page.captureScreenshot", json!({ "format": "png" })).await;
        let png = BASE64_STANDARD.decode(answer["data"].as_str().expect("a picture")).expect("base64");
        let path = self.directory.join(format!("{}-{name}.png", self.screen.name));
        std::fs::write(&path, png).expect("a picture is written");
        println!("picture: {}", path.display());
    }

    /// Ends the browser, which must have complained of nothing: no script error, no breach of the content security
    /// policy. Chromium also logs each answer of 400 and above; what belongs to the story is `expected`.
    pub(crate) async fn close(self, expected: &[&str]) {
        let log = self.command("se/log", json!({ "type": "browser" })).await;
        let complaints: Vec<&Value> = log
            .as_array()
            .expect("a list")
            .iter()
            .filter(|entry| {
                let message = entry["message"].as_str().unwrap_or_default();
                let of_story = entry["source"] == "network" && expected.iter().any(|words| message.contains(words));
                !of_story
            })
            .collect();
        assert!(complaints.is_empty(), "the browser complained: {complaints:#?}");
        self.client.close().await.expect("the browser ends");
    }

    /// A command of the DevTools protocol.
    pub(crate) async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.command("goog/cdp/execute", json!({ "cmd": command, "params": parameters })).await
    }

    /// A command of chromedriver beyond the standard.
    async fn command(&self, path: &'static str, body: Value) -> Value {
        self.client.issue_cmd(Extension { path, body }).await.expect("chromedriver answers")
    }
}

#[derive(Debug)]
struct Extension {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Extension {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, <Url as std::str::FromStr>::Err> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.body.to_string()))
    }
}
