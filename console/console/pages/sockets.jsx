// Sockets: the list, and one of them.

import {h} from "preact"
import {useState} from "preact/hooks"
import {ask, query} from "../api.js"
import {bytes, count, number, seconds} from "../format.js"
import {Destroy, Facts, Field, Filters, Table, Trouble, socketLink, topicLink, useAnswer} from "../parts.jsx"
import {Pages} from "./topics.jsx"

export function Sockets({given}) {
  const [asked, setAsked] = useState({user: given.user ?? "", address: given.address ?? "", topic: given.topic ?? "", transport: "", sort: "age", after: ""})
  const page = useAnswer(`/api/sockets${query({...asked, limit: 50})}`, asked.after ? undefined : 5)
  const {sockets, total, next} = page.answer ?? {}
  const set = name => event => setAsked({...asked, [name]: event.target.value.trim(), after: ""})
  return (
    <div>
      <h1 tabIndex={-1}>Sockets</h1>
      <Filters>
        <Field label="user"><input type="search" value={asked.user} onChange={set("user")} /></Field>
        <Field label="address"><input type="search" value={asked.address} onChange={set("address")} /></Field>
        <Field label="topic"><input type="search" value={asked.topic} onChange={set("topic")} /></Field>
        <Field label="transport">
          <select value={asked.transport} onChange={set("transport")}>
            <option value="">any</option><option>websocket</option><option>longpoll</option><option>sse</option>
          </select>
        </Field>
        <Field label="order">
          <select value={asked.sort} onChange={set("sort")}>
            <option value="age">oldest</option><option value="waiting">most waiting</option><option value="received">most sent</option>
          </select>
        </Field>
      </Filters>
      <Trouble error={page.error} />
      {total !== undefined && <p class="soft">{count(total, "socket")}</p>}
      <Table caption="Sockets" rows={sockets} empty="No socket fits." sort={asked.sort} onSort={sort => setAsked({...asked, sort, after: ""})} columns={[
        {title: "socket", show: row => socketLink(row.socket)},
        {title: "user", keep: true, show: row => row.user ?? "–"},
        {title: "address", show: row => row.address ?? "–"},
        {title: "endpoint", show: row => row.endpoint},
        {title: "transport", show: row => row.transport},
        {title: "connected", sort: "age", number: true, keep: true, show: row => seconds(row.connected_s)},
        {title: "idle", number: true, show: row => seconds(row.idle_s)},
        {title: "topics", number: true, show: row => number(row.topics)},
        {title: "received", sort: "received", number: true, show: row => number(row.received)},
        {title: "waiting", sort: "waiting", number: true, show: row => bytes(row.waiting_bytes)},
      ]} />
      <Pages asked={asked} next={next} onGo={after => setAsked({...asked, after})} />
    </div>
  )
}

export function Socket({id, rights}) {
  const {answer, error} = useAnswer(`/api/sockets/${encodeURIComponent(id)}`, 3)
  const user = answer?.user
  const others = useAnswer(user ? `/api/sockets${query({user, limit: 1})}` : "/api/sockets?limit=1").answer?.total
  const close = async () => {
    await ask(`/api/sockets/${encodeURIComponent(id)}`, {method: "DELETE"})
    return "The socket is closed."
  }
  const disconnect = async () => {
    const {closed} = await ask("/api/disconnect", {method: "POST", body: {id: user}})
    return `${closed} sockets are closed.`
  }
  return (
    <div>
      <h1 tabIndex={-1}>Socket {id}</h1>
      {error?.status === 404 ? <p role="status">It has gone. <a href="#/why">Why</a> says so if the server closed it.</p> : <Trouble error={error} />}
      {answer && <Facts items={[
        ["user", user ? <a href={`#/sockets?user=${encodeURIComponent(user)}`}>{user}</a> : "–"],
        ["address", answer.address ?? "–"],
        ["endpoint", answer.endpoint],
        ["transport", answer.transport],
        ["protocol", `${answer.protocol} ${answer.vsn}`],
        ["connected", seconds(answer.connected_s)],
        ["idle", seconds(answer.idle_s)],
        ["received", number(answer.received)],
        ["waiting", bytes(answer.waiting_bytes)],
        ["credential ends in", seconds(answer.expires_s)],
      ]} />}
      <p class="actions">
        {answer && rights.includes("tap") && <a class="button" href={`#/tap?socket=${encodeURIComponent(id)}`}>Watch this socket</a>}
        {user && rights.includes("tap") && <a class="button" href={`#/tap?user=${encodeURIComponent(user)}`}>Watch this user</a>}
        {user && <a class="button" href={`#/why?user=${encodeURIComponent(user)}`}>Why</a>}
      </p>
      {rights.includes("disconnect") && answer && (
        <div class="actions">
          <Destroy label="Close this socket" count={1} onDo={close} />
          {user && others !== undefined && <Destroy label={`Disconnect ${user}`} count={others} onDo={disconnect} />}
        </div>
      )}
      <h2>Topics</h2>
      {answer && (answer.joined.length ? <ul class="names">{answer.joined.map(topic => <li>{topicLink(topic)}</li>)}</ul> : <p class="empty">It has joined none.</p>)}
    </div>
  )
}
