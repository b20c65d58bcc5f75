use futures::future::BoxFuture;

use super::*;

/// A directory in memory: the souls by `handle/slug`, and the requested paths.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<MemoryState>>);

#[derive(Default)]
struct MemoryState {
    souls: BTreeMap<String, String>,
    asked: Vec<String>,
}

impl Memory {
    fn put(&self, name: &str, markdown: &str) {
        self.0.lock().unwrap().souls.insert(name.into(), markdown.into());
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().asked)
    }
}

impl Fetch for Memory {
    fn fetch<'a>(&'a self, request: &'a FetchRequest) -> BoxFuture<'a, Result<Fetched, FetchError>> {
        let MemoryState { souls, asked } = &mut *self.0.lock().unwrap();
        let path = request.url.path();
        asked.push(path.to_owned());
        let text = match path {
            "/sitemap.xml" => {
                let page = |name: &String| format!("<loc>https://souls.test/souls/{name}</loc>");
                let listed = souls.keys().filter(|name| !name.is_empty()).map(page).collect::<String>();
                Some(format!("<urlset>{listed}</urlset>"))
            }
            path => souls.get(path.trim_start_matches("/api/souls/").trim_end_matches(".md")).cloned(),
        };
        // An empty soul is listed and missing.
        let text = text.filter(|text| !text.is_empty());
        let fetched = text.map_or(Fetched::Missing, |text| Fetched::Text { text, etag: None });
        Box::pin(async { Ok(fetched) })
    }
}

struct CacheRig {
    cache: Arc<SoulCache>,
    memory: Memory,
    changes: mpsc::UnboundedReceiver<GatewayChange>,
    _worker: tokio_util::task::AbortOnDropHandle<()>,
}

impl CacheRig {
    fn new(souls: &[(&str, &str)]) -> Self {
        let memory = Memory::default();
        for (name, markdown) in souls {
            memory.put(name, markdown);
        }
        let (sender, changes) = mpsc::unbounded_channel();
        let key = ObjectKey { namespace: "fleet".into(), name: "gw".into() };
        let url = "https://souls.test".parse().unwrap();
        let settings = DirectorySettings { url, allow_private: false, refresh: Duration::from_hours(1) };
        let cache = Arc::new(SoulCache::new(key, settings, Arc::new(memory.clone()), sender));
        let worker = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(SoulCache::run(Arc::clone(&cache))));
        Self { cache, memory, changes, _worker: worker }
    }

    async fn ask(&self, agent: &str, role: &str) -> RoleSoul {
        self.cache.ask(ObjectKey::new("fleet", agent), role).await
    }

    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// The agents with a reported change since the last call.
    fn changed(&mut self) -> Vec<String> {
        let mut changed = Vec::new();
        while let Ok(change) = self.changes.try_recv() {
            if let ChangeScope::Agent(key) = change.scope {
                changed.push(key.name);
            }
        }
        changed
    }

    fn error(&self) -> String {
        self.cache.report().and_then(|report| report.error).unwrap_or_default()
    }
}

fn text(soul: &RoleSoul) -> &str {
    match soul {
        RoleSoul::Found { markdown, .. } => markdown.trim(),
        RoleSoul::NoMatch(_) => "no match",
        RoleSoul::Unknown { .. } => "unknown",
        RoleSoul::Off => "off",
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_soul_is_reported_once_to_the_agents_of_its_role() {
    let mut rig = CacheRig::new(&[("ann/sre", "Calm."), ("bob/writer", "Write.")]);
    assert_eq!(text(&rig.ask("one", "SRE").await), "Calm.");
    assert_eq!(text(&rig.ask("two", "Writer").await), "Write.");
    rig.changed();
    rig.pass(Duration::from_mins(61)).await;
    assert_eq!(rig.changed(), [""; 0], "nothing changed");
    rig.memory.put("ann/sre", "Calmer.");
    rig.pass(Duration::from_mins(61)).await;
    assert_eq!(rig.changed(), ["one"]);
    assert_eq!(text(&rig.ask("one", "SRE").await), "Calmer.");
    rig.pass(Duration::from_mins(61)).await;
    assert_eq!(rig.changed(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_empty_list_removes_no_soul() {
    let mut rig = CacheRig::new(&[("ann/sre", "Calm.")]);
    assert_eq!(text(&rig.ask("one", "SRE").await), "Calm.");
    rig.changed();
    rig.memory.0.lock().unwrap().souls.clear();
    rig.pass(Duration::from_mins(61)).await;
    assert_eq!(text(&rig.ask("one", "SRE").await), "Calm.");
    assert_eq!(rig.changed(), [""; 0]);
    assert!(rig.error().contains("sitemap.xml names no soul"), "{}", rig.error());
}

#[tokio::test(start_paused = true)]
async fn only_a_missing_soul_is_retried_and_at_growing_intervals() {
    let rig = CacheRig::new(&[("ann/sre", ""), ("bob/writer", "Write.")]);
    assert_eq!(text(&rig.ask("one", "SRE").await), "unknown");
    assert_eq!(text(&rig.ask("two", "Writer").await), "Write.");
    rig.memory.asked();
    rig.pass(Duration::from_mins(55)).await;
    let asked = rig.memory.asked();
    assert!(asked.iter().all(|path| path == "/api/souls/ann/sre.md"), "{asked:?}");
    assert!((2..=4).contains(&asked.len()), "retries after 5, 15 and 35 minutes: {asked:?}");
    assert!(rig.error().contains("there is no https://souls.test/api/souls/ann/sre.md"), "{}", rig.error());
}
