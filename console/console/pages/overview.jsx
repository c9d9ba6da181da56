// The node at a glance.

import {h} from "preact"
import {useState} from "preact/hooks"
import {bytes, count, number, seconds} from "../format.js"
import {Connection, Facts, Plot, Table, topicLink, useAnswer, useStream} from "../parts.jsx"

// Ten minutes, a sample a second.
const KEPT = 600

export function Overview() {
  const [samples, setSamples] = useState([])
  const state = useStream("/api/live?what=overview,shards,topics,health&every=1s", "sample", sample =>
    setSamples(before => [...before.slice(1 - KEPT), sample]))
  const info = useAnswer("/api/info", 30).answer
  const now = samples[samples.length - 1]
  const of = field => samples.map(({at, overview}) => ({at, value: overview[field] ?? 0}))
  const drops = samples.map(({at, overview}) => ({at, value: sum(overview.dropped_per_s)}))
  const figures = now?.overview
  const parts = now ? Object.entries(now.health.parts).filter(([kind]) => kind !== "status") : []
  const looks = [
    ...(now && !now.health.ready ? now.health.reasons.map(reason => `not ready: ${reason}`) : []),
    ...parts.flatMap(([kind, states]) => Object.entries(states).filter(([, is]) => is !== "ok").map(([name, is]) => `${kind} ${name}: ${is}`)),
    ...(figures?.waiting_sockets ? [`${count(figures.waiting_sockets, "socket")} with ${bytes(figures.waiting_bytes)} waiting`] : []),
  ]
  return (
    <div>
      <h1 tabIndex={-1}>Overview</h1>
      <Connection state={state} />
      <Facts items={[
        ["sockets", number(figures?.sockets)],
        ["joined", number(figures?.members)],
        ["deliveries/s", number(figures?.delivered_per_s)],
        ["p99", figures?.p99_ms === null || !figures ? "–" : `${number(figures.p99_ms)} ms`],
        ["received/s", number(figures?.received_per_s)],
        ["drops/s", number(figures && sum(figures.dropped_per_s))],
        ["memory", bytes(figures?.memory_bytes)],
      ]} />
      <div class="plots">
        <Plot title="deliveries/s" values={of("delivered_per_s")} show={number} />
        <Plot title="p99 in ms" values={of("p99_ms")} show={number} />
        <Plot title="sent/s" values={of("sent_bytes_per_s")} show={bytes} />
        <Plot title="drops/s" values={drops} show={number} />
        <Plot title="memory" values={of("memory_bytes")} show={bytes} />
      </div>
      <h2>Needs a look</h2>
      {looks.length ? <ul>{looks.map(look => <li>{look}</li>)}</ul> : <p class="empty">Nothing. <a href="#/why">Why</a> has the last refusals and losses.</p>}
      <h2>Busiest topics</h2>
      <Table caption="Topics with most deliveries" rows={now?.topics?.topics.slice(0, 10)} empty="No topic has members." columns={[
        {title: "topic", show: row => topicLink(row.topic)},
        {title: "members", number: true, keep: true, show: row => number(row.members)},
        {title: "in/s", number: true, show: row => number(row.published_per_s)},
        {title: "out/s", number: true, keep: true, show: row => number(row.delivered_per_s)},
      ]} />
      <Nodes />
      <h2>Shards</h2>
      <Table caption="Shards" rows={now?.shards?.map((shard, i) => ({...shard, i}))} empty="" columns={[
        {title: "shard", show: row => row.i},
        {title: "sockets", number: true, keep: true, show: row => number(row.sockets)},
        {title: "busy", number: true, keep: true, show: row => `${number(row.busy * 100)} %`},
        {title: "left over", number: true, show: row => number(row.left_over)},
      ]} />
      {info && <p class="soft">Fanfare {info.version}, up for {seconds(Math.round((new Date(info.now) - new Date(info.started_at)) / 1000))}, configuration {info.generation}</p>}
    </div>
  )
}

// The nodes of a cluster; nothing where this one is alone.
function Nodes() {
  const {answer} = useAnswer("/api/nodes", 5)
  if (!answer || answer.nodes.length + answer.gone.length < 2) return null
  return (
    <div>
      <h2>Nodes</h2>
      <p class="soft">{number(answer.total.nodes)} nodes have {number(answer.total.sockets)} sockets, which have joined {number(answer.total.joins)} times. The rest of this page is of this node.</p>
      <Table caption="Nodes" rows={[...answer.nodes, ...answer.gone]} columns={[
        {title: "node", show: row => <span><NodeName row={row} />{row.self && " (this one)"}</span>},
        {title: "state", keep: true, show: row => isGone(row) ? `${row.left ? "ended" : "gone"}, heard ${seconds(Math.round(row.heard_s))} ago` : "alive"},
        {title: "sockets", number: true, keep: true, show: row => isGone(row) ? "–" : number(row.sockets)},
        {title: "joined", number: true, keep: true, show: row => isGone(row) ? "–" : number(row.joins)},
        {title: "topics", number: true, show: row => isGone(row) ? "–" : number(row.topics)},
        {title: "in/s", number: true, show: row => number(row.published_per_s)},
        {title: "out/s", number: true, keep: true, show: row => number(row.delivered_per_s)},
        {title: "p99 in ms", number: true, keep: true, show: row => number(row.p99_ms)},
        {title: "version", keep: true, show: row => row.version ?? "–"},
      ]} />
    </div>
  )
}

// With a link to its console, where it has told one. A node may be of another program: nothing but a page is linked to.
function NodeName({row}) {
  const name = row.name ?? row.node
  return !row.self && /^https?:\/\//.test(row.admin_url ?? "") ? <a href={row.admin_url} rel="noopener noreferrer" target="_blank">{name}</a> : name
}

const isGone = row => row.heard_s !== undefined
const sum = by => Object.values(by ?? {}).reduce((all, one) => all + one, 0)
