// The console: who may look, and which page is shown.

import {h, render} from "preact"
import {useEffect, useState} from "preact/hooks"
import {ask, whenSessionEnds} from "./api.js"
import {Field, Trouble} from "./parts.jsx"
import {Config} from "./pages/config.jsx"
import {Overview} from "./pages/overview.jsx"
import {History, Publish, Topic, Topics} from "./pages/topics.jsx"
import {Socket, Sockets} from "./pages/sockets.jsx"
import {TapPage, Why} from "./pages/watch.jsx"

const PAGES = [["", "Overview"], ["topics", "Topics"], ["sockets", "Sockets"], ["tap", "Tap"], ["why", "Why"], ["publish", "Publish"], ["config", "Config"]]

// The right that a page needs.
const needed = page => ({tap: "tap", history: "tap", publish: "publish", config: "operate"})[page] ?? "read"

function here() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?")
  const [page, ...rest] = path.split("/")
  return {page, name: decode(rest.join("/")), given: Object.fromEntries(new URLSearchParams(query))}
}

function decode(text) {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

// `fanfare dev` prints a link with the token, which leaves the address bar at once.
function tokenOfLink() {
  const token = location.hash.match(/^#token=(.+)$/)?.[1]
  if (token) history.replaceState(null, "", location.pathname)
  return token && decode(token)
}

function App() {
  const [session, setSession] = useState()
  const [place, setPlace] = useState(here())
  const [dark, setDark] = useState(localStorage.getItem("scheme") ?? "")
  useEffect(() => {
    const token = tokenOfLink()
    setPlace(here())
    whenSessionEnds(() => setSession({ended: true}))
    const begin = token ? ask("/api/session", {method: "POST", body: {token}}) : ask("/api/session")
    begin.then(setSession, error => setSession({error: token || error.status !== 401 ? error : undefined}))
    const move = () => {
      setPlace(here())
      // As a new page would: who listens hears where they are.
      setTimeout(() => document.querySelector("h1")?.focus(), 0)
    }
    addEventListener("hashchange", move)
    return () => removeEventListener("hashchange", move)
  }, [])
  useEffect(() => {
    document.documentElement.dataset.scheme = dark
    localStorage.setItem("scheme", dark)
  }, [dark])
  useEffect(() => {
    document.title = `${document.querySelector("h1")?.textContent ?? ""} · Fanfare`
  })
  if (!session) return <main class="login"><h1>Fanfare</h1><p>…</p></main>
  if (!session.rights) return <Login before={session} onDone={setSession} />
  const logOut = async () => {
    await ask("/api/session", {method: "DELETE"}).catch(() => {})
    setSession({})
  }
  const current = {topic: "topics", history: "topics", socket: "sockets"}[place.page] ?? place.page
  return (
    <div class="shell">
      <a class="skip" href="#main" onClick={event => { event.preventDefault(); document.querySelector("h1")?.focus() }}>To the content</a>
      <header>
        <span class="brand">Fanfare</span>
        <nav aria-label="Pages">
          {PAGES.map(([path, title]) => {
            const lacking = session.rights.includes(needed(path)) ? undefined : `needs the right ${needed(path)}`
            return (
              <a href={`#/${path}`} class={lacking && "lacking"} title={lacking} aria-current={current === path ? "page" : undefined}>
                {title}{lacking && <span class="visually-hidden">, {lacking}</span>}
              </a>
            )
          })}
        </nav>
        <span class="tools">
          <button type="button" onClick={() => setDark(next(dark))} aria-label={`Colours: ${dark || "as the system"}`} title="Colours">{dark === "dark" ? "☾" : dark === "light" ? "☀" : "◐"}</button>
          <button type="button" onClick={logOut}>Log out</button>
        </span>
      </header>
      <main id="main"><Page key={location.hash} place={place} session={session} /></main>
    </div>
  )
}

const next = scheme => ({"": "dark", dark: "light", light: ""})[scheme]

function Page({place: {page, name, given}, session: {name: token, rights}}) {
  if (!rights.includes(needed(page))) return <Lacking page={page} token={token} />
  switch (page) {
    case "": return <Overview />
    case "topics": return <Topics />
    case "topic": return <Topic name={name} rights={rights} />
    case "history": return <History name={name} />
    case "sockets": return <Sockets given={given} />
    case "socket": return <Socket id={name} rights={rights} />
    case "tap": return <TapPage given={given} rights={rights} />
    case "why": return <Why given={given} />
    case "config": return <Config />
    case "publish": return <Publish given={given} />
    default: return <div><h1 tabIndex={-1}>Not here</h1><p>There is no such page. <a href="#/">Overview</a></p></div>
  }
}

function Lacking({page, token}) {
  const [, title] = PAGES.find(([path]) => path === page) ?? [page, page[0].toUpperCase() + page.slice(1)]
  return (
    <div>
      <h1 tabIndex={-1}>{title}</h1>
      <p>The token {token} lacks the right {needed(page)}. Add it to <code>may</code> of its <code>[[admin.token]]</code>, or log in with another token.</p>
    </div>
  )
}

function Login({before, onDone}) {
  const [error, setError] = useState(before.error)
  const submit = async event => {
    event.preventDefault()
    try {
      onDone(await ask("/api/session", {method: "POST", body: {token: event.target.elements.token.value}}))
    } catch (failed) {
      setError(failed)
    }
  }
  return (
    <main class="login">
      <h1 tabIndex={-1}>Fanfare</h1>
      {before.ended && <p role="status">Your session has ended. Log in again.</p>}
      <form onSubmit={submit}>
        <Field label="API token"><input name="token" type="password" required autocomplete="current-password" autofocus /></Field>
        <button type="submit">Log in</button>
      </form>
      <Trouble error={error} />
      <p class="soft">The token is that of the HTTP API: <code>[admin]</code> in the configuration says where it is. For load balancers: <a href="/api/health">/api/health</a></p>
    </main>
  )
}

const root = document.getElementById("app")
root.textContent = ""
render(<App />, root)
