// What passes, and why something did not.

import {h} from "preact"
import {useRef, useState} from "preact/hooks"
import {query} from "../api.js"
import {bytes, clock, number, seconds} from "../format.js"
import {Connection, Field, Filters, Table, Trouble, socketLink, topicLink, useAnswer, useStream} from "../parts.jsx"

// So many messages are shown.
const SHOWN = 300

export function TapPage({given, rights}) {
  const [form, setForm] = useState({topic: given.topic ?? "", user: given.user ?? "", address: "", socket: given.socket ?? "", direction: "", event: "", payload: "masked"})
  const [watched, setWatched] = useState(given.topic || given.user || given.socket ? form : undefined)
  const [rows, setRows] = useState([])
  const [isPaused, setPaused] = useState(false)
  const paused = useRef(false)
  const set = name => event => setForm({...form, [name]: event.target.value})
  const path = watched && `/api/tap${query(watched)}`
  const state = useStream(path, "tap", message => paused.current || setRows(before => [message, ...before.slice(0, SHOWN - 1)]))
  const begin = () => {
    setRows([])
    setWatched({...form})
  }
  const pause = () => {
    paused.current = !paused.current
    setPaused(paused.current)
  }
  return (
    <div>
      <h1 tabIndex={-1}>Tap</h1>
      <Filters onSubmit={begin} isOpen={!watched}>
        <Field label="topic, such as room:*"><input value={form.topic} onInput={set("topic")} /></Field>
        <Field label="user"><input value={form.user} onInput={set("user")} /></Field>
        <Field label="address"><input value={form.address} onInput={set("address")} /></Field>
        <Field label="socket, such as 0-17-3"><input value={form.socket} onInput={set("socket")} /></Field>
        <Field label="direction">
          <select value={form.direction} onChange={set("direction")}><option value="">both</option><option value="in">from clients</option><option value="out">to clients</option></select>
        </Field>
        <Field label="event"><input value={form.event} onInput={set("event")} /></Field>
        <Field label="payload">
          <select value={form.payload} onChange={set("payload")}>
            <option>masked</option><option>none</option>{rights.includes("operate") && <option>full</option>}
          </select>
        </Field>
        <button type="submit" disabled={!form.topic && !form.user && !form.address && !form.socket}>Watch</button>
      </Filters>
      {watched && (
        <div class="bar">
          <Connection state={state} />
          <button type="button" aria-pressed={isPaused} onClick={pause}>Pause</button>
          <button type="button" onClick={() => setRows([])}>Clear</button>
        </div>
      )}
      {watched && rows.length === 0 && <p class="empty">Nothing has passed yet.</p>}
      {rows.length > 0 && <Table caption="Messages, the newest first" rows={rows} columns={[
        {title: "at", show: row => clock(row.at)},
        {title: "direction", keep: true, show: row => (row.direction === "in" ? "← from" : "→ to")},
        {title: "user", show: row => row.user ?? "–"},
        {title: "socket", show: row => (row.socket ? socketLink(row.socket) : "–")},
        {title: "topic", keep: true, show: row => topicLink(row.topic)},
        {title: "event", keep: true, show: row => `${row.event}${row.status ? ` ${row.status}` : ""}`},
        {title: "size", number: true, show: row => bytes(row.bytes)},
        {title: "payload", keep: true, show: row => (
          <span>
            <code class="payload">{row.payload !== undefined ? JSON.stringify(row.payload) : row.payload_begin ?? ""}</code>
            {row.left_out ? <em> ({number(row.left_out)} left out before)</em> : null}
          </span>
        )},
      ]} />}
    </div>
  )
}

const KINDS = ["refused", "credential_refused", "join_refused", "push_refused", "closed", "dropped", "limited", "crashed", "misread"]

export function Why({given}) {
  const [asked, setAsked] = useState({user: given.user ?? "", address: "", topic: given.topic ?? "", kind: "", since: "1h"})
  const {answer, error} = useAnswer(`/api/why${query({...asked, limit: 100})}`, 5)
  const set = name => event => setAsked({...asked, [name]: event.target.value.trim()})
  return (
    <div>
      <h1 tabIndex={-1}>Why</h1>
      <p class="soft">Who was refused, closed by the server, or lost something: the last facts of this node.</p>
      <Filters>
        <Field label="user"><input type="search" value={asked.user} onChange={set("user")} /></Field>
        <Field label="address"><input type="search" value={asked.address} onChange={set("address")} /></Field>
        <Field label="topic"><input type="search" value={asked.topic} onChange={set("topic")} /></Field>
        <Field label="kind"><select value={asked.kind} onChange={set("kind")}><option value="">any</option>{KINDS.map(kind => <option>{kind}</option>)}</select></Field>
        <Field label="since"><select value={asked.since} onChange={set("since")}><option>5m</option><option>1h</option><option value="24h">1 day</option></select></Field>
      </Filters>
      <Trouble error={error} />
      <Table caption="Facts, the newest first" rows={answer?.facts} empty="Nothing of the kind has happened." columns={[
        {title: "at", show: row => clock(row.at)},
        {title: "what", keep: true, show: row => `${row.count > 1 ? `×${number(row.count)} ` : ""}${row.kind} ${row.code ?? ""}`},
        {title: "detail", keep: true, show: row => <span>{row.detail}{row.next && <span class="next"> Next: {row.next}.</span>}</span>},
        {title: "user", show: row => row.user ?? "–"},
        {title: "address", show: row => row.address ?? "–"},
        {title: "about", show: row => row.topic ?? row.endpoint ?? "–"},
        {title: "for", number: true, show: row => (row.for_s ? seconds(row.for_s) : "–")},
      ]} />
    </div>
  )
}
