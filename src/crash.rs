//! Named points at which a process can be made to die, for the crash matrix (`tests/crash`).
//!
//! They stand where the seams are, in few places, so that each handler has them by construction: around every commit
//! (`store`), publish and acknowledgement (`broker`) and call of WeChat (`wechat`). A name says moment and matter:
//! `commit.before:seats.take_in`, `publish.sent:order.held>prepay`, `wechat.after:create_refund`.
//!
//! Only with the cargo feature `failpoints`; without it nothing of this is compiled, and a build without debug
//! assertions refuses the feature. Then the environment says what to do, read once:
//!
//! - `HOLDFAST_CRASH_AT=name`: the process kills itself (SIGKILL) when it comes to the point.
//! - `HOLDFAST_CRASH_RECORD=file`: each point is appended when it is passed.
//! - `HOLDFAST_PAUSE_AT=name`: the process stops itself (SIGSTOP) when it comes to the point for the first time, and goes
//!   on after SIGCONT. `HOLDFAST_PAUSE_MARK=file` is created once it has stopped.
//! - `HOLDFAST_UNSAFE=safeguard`: the named safeguard is left out, so that the matrix can show that it would notice.

#[cfg(not(feature = "failpoints"))]
pub(crate) use absent::{around, point, renamed, without};
#[cfg(feature = "failpoints")]
pub(crate) use present::{around, point, renamed, without};

#[cfg(not(feature = "failpoints"))]
mod absent {
    use std::borrow::Cow;

    #[inline(always)]
    pub(crate) fn point<T>(_moment: &str, _matter: T) {}

    #[inline(always)]
    pub(crate) fn around<T, F: Future>(_deed: &str, _matter: T, doing: F) -> F {
        doing
    }

    #[inline(always)]
    pub(crate) const fn without(_safeguard: &str) -> bool {
        false
    }

    #[inline(always)]
    pub(crate) const fn renamed<'a>(_safeguard: &str, name: &'a str) -> Cow<'a, str> {
        Cow::Borrowed(name)
    }
}

#[cfg(feature = "failpoints")]
mod present {
    #[cfg(not(debug_assertions))]
    compile_error!(
        "the feature `failpoints` is for tests: no release may be able to kill itself or leave safeguards out"
    );

    use std::{
        borrow::Cow,
        env,
        fmt::Display,
        fs::File,
        io::Write,
        process::{self, Command},
        sync::{
            LazyLock,
            atomic::{AtomicBool, Ordering},
        },
    };

    struct Orders {
        crash_at: Option<String>,
        pause_at: Option<String>,
        record: Option<File>,
        without: Option<String>,
    }

    static ORDERS: LazyLock<Orders> = LazyLock::new(|| Orders {
        crash_at: env::var("HOLDFAST_CRASH_AT").ok(),
        pause_at: env::var("HOLDFAST_PAUSE_AT").ok(),
        record: env::var("HOLDFAST_CRASH_RECORD")
            .ok()
            .map(|file| File::options().create(true).append(true).open(file).expect("HOLDFAST_CRASH_RECORD=file")),
        without: env::var("HOLDFAST_UNSAFE").ok(),
    });

    static HAS_PAUSED: AtomicBool = AtomicBool::new(false);

    /// Passes a point: records it, and dies or stops here if that is wanted.
    pub(crate) fn point<T: Display>(moment: &str, matter: T) {
        let name = format!("{moment}:{matter}");
        if let Some(mut file) = ORDERS.record.as_ref() {
            // One write, unbuffered: it is there even when the next line kills us.
            file.write_all(format!("{name}\n").as_bytes()).expect("the record can be written");
        }
        if ORDERS.crash_at.as_ref() == Some(&name) {
            die();
        }
        if ORDERS.pause_at.as_ref() == Some(&name) && !HAS_PAUSED.swap(true, Ordering::Relaxed) {
            pause();
        }
    }

    /// SIGKILL as anybody would send it; this task does not take another step. (`kill(2)` itself would need `unsafe`
    /// or a crate.)
    fn die() -> ! {
        let _ = Command::new("kill").args(["-KILL", &process::id().to_string()]).status();
        process::abort()
    }

    /// Sends SIGSTOP to this process and returns after SIGCONT.
    ///
    /// The kernel may let this thread run for a moment after the signal is sent. So the child that sends it ends only
    /// when it has seen the whole process stopped, and this thread waits for the child. The mark comes after that: a
    /// SIGCONT sent because of the mark cannot come too early.
    fn pause() {
        let script = r#"kill -STOP "$1"
            until case $(ps -o stat= -p "$1") in T*) true ;; *) false ;; esac; do :; done
            : >"$2""#;
        let mark = env::var("HOLDFAST_PAUSE_MARK").expect("HOLDFAST_PAUSE_MARK=file");
        let stopped = Command::new("sh").args(["-c", script, "pause", &process::id().to_string(), &mark]).status();
        assert!(stopped.is_ok_and(|status| status.success()), "the process cannot be stopped");
    }

    /// Does something between the points `deed.before` and `deed.after`.
    pub(crate) async fn around<T: Display, F: Future>(deed: &str, matter: T, doing: F) -> F::Output {
        point(&format!("{deed}.before"), &matter);
        let done = doing.await;
        point(&format!("{deed}.after"), &matter);
        done
    }

    /// Whether a safeguard is to be left out.
    pub(crate) fn without(safeguard: &str) -> bool {
        ORDERS.without.as_deref() == Some(safeguard)
    }

    /// A name that should be the same whoever asks; without the safeguard each process has its own.
    pub(crate) fn renamed<'a>(safeguard: &str, name: &'a str) -> Cow<'a, str> {
        if without(safeguard) { format!("{name}-{}", process::id()).into() } else { name.into() }
    }
}
