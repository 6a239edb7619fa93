import { render } from "preact";
import { lazy, Suspense } from "preact/compat";
import { useEffect, useMemo, useState } from "preact/hooks";
import { getSession, keepLanguage, logout, whenSessionEnds, type Session } from "./api";
import icon from "./icon.svg";
import { Help, useKeys } from "./keys";
import { Words, WordsContext, type Language } from "./language";
import { Audit } from "./pages/Audit";
import { Login } from "./pages/Login";
import { Operations } from "./pages/Operations";
import { Users } from "./pages/Users";
import { Worklist } from "./pages/Worklist";
import { Password } from "./Password";
import "./style/base.css";
import "./style/worklist.css";
import "./style/viewer.css";
import "./style/panel.css";
import "./style/dialogs.css";
import "./style/devices.css";

// The viewer's libraries are large: only who opens a study fetches them.
const viewer = () => import("./pages/StudyPage");
const StudyPage = lazy(async () => (await viewer()).StudyPage);

const languageKey = "lungmesh.language";

function firstLanguage(): Language {
  const kept = localStorage.getItem(languageKey);
  if (kept === "en" || kept === "zh") return kept;
  return navigator.language.startsWith("zh") ? "zh" : "en";
}

const reads = (session: Session): boolean =>
  session.roles.some((role) => role === "radiologist" || role === "nurse");

/** Whether the session's roles let it see the worklist. */
const lists = (session: Session): boolean =>
  reads(session) || session.roles.includes("operator");

function useHash(): string {
  const [hash, setHash] = useState(location.hash);
  useEffect(() => {
    const change = (): void => setHash(location.hash);
    addEventListener("hashchange", change);
    return () => removeEventListener("hashchange", change);
  }, []);
  return hash;
}

function App() {
  const [language, setLanguage] = useState(firstLanguage);
  const [session, setSession] = useState<Session | null | undefined>(undefined);
  const [help, setHelp] = useState(false);
  const [password, setPassword] = useState(false);
  const words = useMemo(() => new Words(language), [language]);
  const hash = useHash();
  const [oidc, setOidc] = useState(false);
  const read = async (): Promise<void> => {
    const found = await getSession().catch(() => ({ session: null, oidc: false }));
    setOidc(found.oidc);
    setSession(found.session);
    const chosen = found.session?.language;
    if (!localStorage.getItem(languageKey) && (chosen === "en" || chosen === "zh")) {
      setLanguage(chosen);
    }
  };
  const choose = (chosen: Language): void => {
    setLanguage(chosen);
    localStorage.setItem(languageKey, chosen);
    if (session) void keepLanguage(chosen).catch(() => undefined);
  };

  useEffect(() => {
    whenSessionEnds(() => setSession(null));
    void read();
  }, []);
  useEffect(() => {
    document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  }, [language]);
  useKeys({ "?": () => setHelp(true) });
  useEffect(() => {
    // While the worklist is read, the viewer gets ready.
    if (session && reads(session)) void viewer().then((loaded) => loaded.warmUp());
  }, [session]);

  const study = /^#\/studies\/([0-9a-f-]{36})$/.exec(hash)?.[1];
  const has = (role: string): boolean => session?.roles.includes(role) ?? false;
  const link = (to: string, text: string) => (
    <a href={to} aria-current={(hash || "#/") === to ? "page" : undefined}>
      {text}
    </a>
  );
  const page = () => {
    if (session === undefined) return <main id="content" class="center" />;
    if (session === null) return <Login oidc={oidc} onDone={() => void read()} />;
    if (study) {
      return (
        <Suspense fallback={<main id="content" class="center">{words.say("loading")}</main>}>
          <StudyPage key={study} id={study} session={session} />
        </Suspense>
      );
    }
    if (hash === "#/operations" && has("operator")) return <Operations />;
    if (hash === "#/users" && has("administrator")) return <Users tenants={session.tenants} />;
    if (hash === "#/audit" && has("administrator")) return <Audit />;
    if (lists(session)) return <Worklist session={session} />;
    return <Audit />;
  };
  return (
    <WordsContext.Provider value={words}>
      <a class="skip" href="#content" onClick={(event) => (event.preventDefault(), focusContent())}>
        {words.say("skip")}
      </a>
      <div class="topbar">
        <a class="brand" href="#/">
          <img src={icon} alt="" width={22} height={22} /> LungMesh
        </a>
        {session && (
          <nav>
            {lists(session) && link("#/", words.say("worklist"))}
            {has("operator") && link("#/operations", words.say("operations"))}
            {has("administrator") && link("#/users", words.say("users"))}
            {has("administrator") && link("#/audit", words.say("audit"))}
          </nav>
        )}
        <p class="research">{words.say("research")}</p>
        <button type="button" onClick={() => choose(language === "en" ? "zh" : "en")}>
          {words.say("language")}
        </button>
        {session && (
          <>
            <button type="button" aria-label={words.say("help")} onClick={() => setHelp(true)}>
              ?
            </button>
            <button
              type="button"
              class="user"
              title={session.roles.map((role) => words.term(role)).join(", ")}
              disabled={!session.local}
              onClick={() => setPassword(true)}
            >
              {session.user}
            </button>
            <button type="button" onClick={() => void logout().finally(() => setSession(null))}>
              {words.say("sign_out")}
            </button>
          </>
        )}
      </div>
      {page()}
      {password && <Password onClose={() => setPassword(false)} />}
      {help && <Help onClose={() => setHelp(false)} />}
    </WordsContext.Provider>
  );
}

function focusContent(): void {
  const content = document.getElementById("content");
  content?.setAttribute("tabindex", "-1");
  content?.focus();
}

render(<App />, document.getElementById("app") as HTMLElement);
