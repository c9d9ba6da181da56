// What the server goes by, and what operators do about it.

import {h} from "preact"
import {useState} from "preact/hooks"
import {ask} from "../api.js"
import {count, number} from "../format.js"
import {Destroy, Field, Filters, Table, Trouble, useAnswer} from "../parts.jsx"

export function Config() {
  const [asked, setAsked] = useState({text: "", given: false})
  const {answer, error, again} = useAnswer("/api/config")
  const rows = answer?.keys.filter(row => row.key.includes(asked.text) && (!asked.given || row.from !== "default"))
  return (
    <div>
      <h1 tabIndex={-1}>Config</h1>
      <Trouble error={error} />
      {answer && <p class="soft">Configuration {answer.generation} since the start. A secret is shown as <code>set</code>.</p>}
      <div class="cards">
        <Reload onDone={again} />
        <LogLevel />
        <Drain />
      </div>
      <h2>Keys</h2>
      <Filters>
        <Field label="contains"><input type="search" value={asked.text} onInput={event => setAsked({...asked, text: event.target.value.trim()})} /></Field>
        <Field label="show">
          <select value={asked.given ? "given" : ""} onChange={event => setAsked({...asked, given: event.target.value === "given"})}>
            <option value="">all</option><option value="given">what is no default</option>
          </select>
        </Field>
      </Filters>
      {rows && <p class="soft">{count(rows.length, "key")}</p>}
      <Table caption="Keys of the configuration" rows={rows} empty="No key fits." columns={[
        {title: "key", show: row => <code>{row.key}</code>},
        {title: "value", keep: true, show: row => (row.value === null ? "–" : <code>{typeof row.value === "string" ? row.value : JSON.stringify(row.value)}</code>)},
        {title: "from", keep: true, show: row => row.from},
        {title: "a change", show: row => row.reload},
      ]} />
    </div>
  )
}

function Reload({onDone}) {
  const [state, setState] = useState({})
  const run = async check => {
    setState({isRunning: true})
    try {
      const {changed} = await ask(`/api/reload${check ? "?check=true" : ""}`, {method: "POST"})
      const keys = changed.length ? changed.join(", ") : "nothing"
      setState({done: check ? `It would change: ${keys}.` : `Changed: ${keys}.`})
      if (!check) onDone()
    } catch (error) {
      setState({error})
    }
  }
  return (
    <section class="card" aria-labelledby="reload">
      <h2 id="reload">Reload</h2>
      <p class="soft">The file, the environment and the flags are read again. All of it counts, or nothing.</p>
      <p class="actions">
        <button type="button" disabled={state.isRunning} onClick={() => run(true)}>Check</button>
        <button type="button" disabled={state.isRunning} onClick={() => run(false)}>Reload</button>
      </p>
      {state.done && <p role="status">{state.done}</p>}
      <Trouble error={state.error} />
    </section>
  )
}

function LogLevel() {
  const {answer, error, again} = useAnswer("/api/log", 10)
  const [state, setState] = useState({level: "", span: "10m"})
  const change = async event => {
    event.preventDefault()
    try {
      await ask("/api/log", {method: "POST", body: {level: state.level, ...(state.span && {for: state.span})}})
      setState({...state, error: undefined})
      again()
    } catch (failed) {
      setState({...state, error: failed})
    }
  }
  return (
    <section class="card" aria-labelledby="log">
      <h2 id="log">Log</h2>
      {answer && <p>The level is <code>{answer.level}</code>{answer.level !== answer.configured && <span>, configured is <code>{answer.configured}</code></span>}.</p>}
      <form class="filters" onSubmit={change}>
        <Field label="level, such as debug"><input required value={state.level} onInput={event => setState({...state, level: event.target.value.trim()})} /></Field>
        <Field label="for">
          <select value={state.span} onChange={event => setState({...state, span: event.target.value})}>
            <option value="10m">10 minutes</option><option value="1h">1 hour</option><option value="">until the next reload</option>
          </select>
        </Field>
        <button type="submit">Change the log</button>
      </form>
      <Trouble error={state.error ?? error} />
    </section>
  )
}

function Drain() {
  const {answer} = useAnswer("/api/sockets?limit=1", 10)
  if (!answer) return null
  const drain = async () => {
    const {limit_s: limit} = await ask("/api/drain", {method: "POST"})
    return `The node drains, and ends within ${number(limit)} s.`
  }
  return (
    <section class="card" aria-labelledby="drain">
      <h2 id="drain">Drain</h2>
      <p class="soft">As SIGTERM does: clients are told to connect again, a part at a time, and the process ends.</p>
      <Destroy label="Drain this node" count={answer.total} onDo={drain} yes="Drain it" no="Leave it" />
    </section>
  )
}
