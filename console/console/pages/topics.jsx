// Topics: the list, and one of them.

import {h} from "preact"
import {useState} from "preact/hooks"
import {ask, query} from "../api.js"
import {bytes, count, number, seconds} from "../format.js"
import {Facts, Field, Table, Trouble, socketLink, topicLink, useAnswer} from "../parts.jsx"

export function Topics() {
  const [asked, setAsked] = useState({prefix: "", sort: "members", after: ""})
  const page = useAnswer(`/api/topics${query({...asked, limit: 50})}`, asked.after ? undefined : 5)
  const {topics, total, next} = page.answer ?? {}
  return (
    <div>
      <h1 tabIndex={-1}>Topics</h1>
      <form class="filters" onSubmit={event => event.preventDefault()}>
        <Field label="begins with"><input type="search" value={asked.prefix} onInput={event => setAsked({...asked, prefix: event.target.value, after: ""})} /></Field>
        <Field label="order">
          <select value={asked.sort} onChange={event => setAsked({...asked, sort: event.target.value, after: ""})}>
            <option value="members">most members</option><option value="rate">most deliveries</option><option value="name">name</option>
          </select>
        </Field>
      </form>
      <Trouble error={page.error} />
      {total !== undefined && <p class="soft">{count(total, "topic")}</p>}
      <Table caption="Topics" rows={topics} empty="No topic with members begins like this." sort={asked.sort} onSort={sort => setAsked({...asked, sort, after: ""})} columns={[
        {title: "topic", sort: "name", show: row => topicLink(row.topic)},
        {title: "members", sort: "members", number: true, keep: true, show: row => number(row.members)},
        {title: "in/s", number: true, show: row => number(row.published_per_s)},
        {title: "out/s", sort: "rate", number: true, keep: true, show: row => number(row.delivered_per_s)},
      ]} />
      <Pages asked={asked} next={next} onGo={after => setAsked({...asked, after})} />
    </div>
  )
}

export function Pages({asked, next, onGo}) {
  if (!asked.after && !next) return null
  return (
    <p class="pages">
      <button type="button" disabled={!asked.after} onClick={() => onGo("")}>First</button>
      <button type="button" disabled={!next} onClick={() => onGo(next)}>Next</button>
    </p>
  )
}

export function Topic({name, rights}) {
  const path = encodeURIComponent(name)
  const {answer, error} = useAnswer(`/api/topic/${path}`, 3)
  const members = useAnswer(`/api/members/${path}?limit=50`, 5)
  return (
    <div>
      <h1 tabIndex={-1}>{name}</h1>
      <Trouble error={error} />
      <p class="actions">
        {rights.includes("tap") && <a class="button" href={`#/tap?topic=${path}`}>Watch</a>}
        {rights.includes("tap") && answer?.history && <a class="button" href={`#/history/${path}`}>History</a>}
        {rights.includes("publish") && <a class="button" href={`#/publish?topic=${path}`}>Publish</a>}
        <a class="button" href={`#/why?topic=${path}`}>Why</a>
      </p>
      {answer && <Facts items={[
        ["members", number(answer.members)],
        ["present", number(answer.presence)],
        ["in/s", number(answer.published_per_s)],
        ["out/s", number(answer.delivered_per_s)],
        ["bytes/s", bytes(answer.bytes_per_s)],
        ["channel", answer.channel],
        ["slow readers", answer.slow],
        ["history", answer.history ? `${number(answer.history.messages_max)} messages, ${bytes(answer.history.bytes_max)}, ${seconds(answer.history.ttl_s)}` : "none"],
      ]} />}
      {rights.includes("tap") && <Present name={name} />}
      <h2>Members</h2>
      <Trouble error={members.error} />
      <Table caption="Members" rows={members.answer?.members} empty="Nobody is here." columns={[
        {title: "socket", show: row => socketLink(row.socket)},
        {title: "user", keep: true, show: row => row.user ?? "–"},
        {title: "address", show: row => row.address ?? "–"},
        {title: "connected", number: true, show: row => seconds(row.connected_s)},
        {title: "waiting", number: true, keep: true, show: row => bytes(row.waiting_bytes)},
      ]} />
      {members.answer?.next && <p class="soft">These are the first 50.</p>}
    </div>
  )
}

function Present({name}) {
  const {answer} = useAnswer(`/api/presence/${encodeURIComponent(name)}`)
  const keys = Object.keys(answer?.presence ?? {})
  if (!keys.length) return null
  return <details><summary>Present: {number(answer.count)}</summary><ul class="names">{keys.slice(0, 200).map(key => <li>{key}</li>)}</ul></details>
}

export function History({name}) {
  const [since, setSince] = useState("")
  const {answer, error} = useAnswer(`/api/history/${encodeURIComponent(name)}${query({since, limit: 50})}`)
  const last = answer?.messages[answer.messages.length - 1]?.position
  return (
    <div>
      <h1 tabIndex={-1}>History of {name}</h1>
      <p><a href={`#/topic/${encodeURIComponent(name)}`}>The topic</a></p>
      <Trouble error={error} />
      {answer && <p class="soft">The topic is at {answer.position}{since && !answer.recovered ? "; messages in between are gone" : ""}</p>}
      <Table caption="Kept messages" rows={answer?.messages} empty="Nothing is kept." columns={[
        {title: "position", show: row => row.position},
        {title: "event", keep: true, show: row => row.event},
        {title: "payload", keep: true, show: row => <code class="payload">{JSON.stringify(row.payload)}</code>},
      ]} />
      <p class="pages">
        <button type="button" onClick={() => setSince("0:0")}>From the beginning</button>
        <button type="button" disabled={!last || last === answer.position} onClick={() => setSince(last)}>Next</button>
        <button type="button" onClick={() => setSince("")}>Newest</button>
      </p>
    </div>
  )
}

export function Publish({given}) {
  const [draft, setDraft] = useState({topic: given.topic ?? "", event: "new_msg", payload: "{}"})
  const [state, setState] = useState({})
  const set = name => event => setDraft({...draft, [name]: event.target.value})
  const wrong = problem(draft.payload)
  const send = async event => {
    event.preventDefault()
    setState({isSending: true})
    try {
      const payload = JSON.parse(draft.payload)
      setState({answer: await ask("/api/publish", {method: "POST", body: {topic: draft.topic, event: draft.event, payload}})})
    } catch (error) {
      setState({error})
    }
  }
  return (
    <div>
      <h1 tabIndex={-1}>Publish</h1>
      <form class="card" onSubmit={send}>
        <Field label="topic"><input required maxLength={255} value={draft.topic} onInput={set("topic")} /></Field>
        <Field label="event"><input required maxLength={255} value={draft.event} onInput={set("event")} /></Field>
        <Field label="payload, a JSON object"><textarea rows={8} spellcheck={false} value={draft.payload} onInput={set("payload")} aria-invalid={Boolean(wrong)} aria-describedby="wrong" /></Field>
        <p id="wrong" class="trouble">{wrong}</p>
        <button type="submit" disabled={Boolean(wrong) || state.isSending}>Publish</button>
      </form>
      <Trouble error={state.error} />
      {state.answer && <p role="status">Published{state.answer.messages?.[0]?.position ? ` at ${state.answer.messages[0].position}` : ""}. {(state.answer.hints ?? []).join(" ")}</p>}
    </div>
  )
}

function problem(text) {
  try {
    const value = JSON.parse(text)
    return value && typeof value === "object" && !Array.isArray(value) ? "" : "A payload is an object, such as {\"body\": \"hello\"}."
  } catch (error) {
    return error.message
  }
}
