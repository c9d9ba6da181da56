// What the pages are made of.

import {h} from "preact"
import {useEffect, useRef, useState} from "preact/hooks"
import {ask, listen} from "./api.js"
import {clock, count as counted} from "./format.js"

// What a path of the API answers, asked again every so many seconds if that is given.
export function useAnswer(path, every) {
  const [state, setState] = useState({})
  const [turn, setTurn] = useState(0)
  useEffect(() => {
    let isThere = true
    const load = async () => {
      try {
        const answer = await ask(path)
        if (isThere) setState({path, answer})
      } catch (error) {
        if (isThere) setState(before => ({path, answer: before.path === path ? before.answer : undefined, error}))
      }
    }
    load()
    const timer = every && setInterval(() => document.hidden || load(), every * 1000)
    return () => {
      isThere = false
      clearInterval(timer)
    }
  }, [path, every, turn])
  return {...(state.path === path ? state : {}), again: () => setTurn(turn + 1)}
}

export function useStream(path, event, told) {
  const [state, setState] = useState("opening")
  useEffect(() => (path ? listen(path, event, told, setState) : undefined), [path])
  return state
}

export function Connection({state}) {
  const text = state === "open" ? "live" : state === "opening" ? "connecting…" : `no connection since ${clock(state)}`
  return <p class={`connection ${state === "open" ? "good" : "bad"}`} role="status">{text}</p>
}

export function Trouble({error}) {
  return error ? <p class="trouble" role="alert">{error.message}</p> : null
}

// Columns: {name, title, show, number, sort, keep}; `keep` marks those that a small screen shows.
export function Table({caption, columns, rows, sort, onSort, empty}) {
  if (rows && rows.length === 0) return <p class="empty">{empty}</p>
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={caption}>
      <table>
        <caption class="visually-hidden">{caption}</caption>
        <thead>
          <tr>
            {columns.map(column => (
              <th scope="col" class={column.number ? "number" : ""} aria-sort={column.sort && sort === column.sort ? "descending" : undefined}>
                {column.sort && onSort
                  ? <button type="button" class="plain" onClick={() => onSort(column.sort)}>{column.title}{sort === column.sort ? " ▾" : ""}</button>
                  : column.title}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {(rows ?? []).map(row => (
            <tr>
              {columns.map((column, i) => {
                const value = column.show(row)
                const kind = `${column.number ? "number" : ""} ${column.keep || i === 0 ? "" : "extra"}`
                return i === 0
                  ? <th scope="row" class={kind}>{value}</th>
                  : <td class={kind} data-title={column.title}>{value}</td>
              })}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  )
}

export function Field({label, children}) {
  return <label class="field"><span>{label}</span>{children}</label>
}

const WIDE = matchMedia("(min-width: 48.01rem)")

// What is asked for. On a small screen it is one button, which opens it; `isOpen` leaves it open there as well.
export function Filters({onSubmit = () => {}, isOpen = false, children}) {
  const [isWide, setWide] = useState(WIDE.matches)
  useEffect(() => {
    const change = () => setWide(WIDE.matches)
    WIDE.addEventListener("change", change)
    return () => WIDE.removeEventListener("change", change)
  }, [])
  const submit = event => {
    event.preventDefault()
    onSubmit()
  }
  return (
    <details class="filters-box" open={isWide || isOpen}>
      <summary>Filters</summary>
      <form class="filters" onSubmit={submit}>{children}</form>
    </details>
  )
}

export function Facts({items}) {
  return <dl class="facts">{items.map(([name, value]) => <div><dt>{name}</dt><dd>{value}</dd></div>)}</dl>
}

// A line over time, and the same as a table.
export function Plot({title, values, show}) {
  const width = 300
  const height = 64
  const top = Math.max(1, ...values.map(({value}) => value))
  const step = width / Math.max(1, values.length - 1)
  const points = values.map(({value}, i) => `${(i * step).toFixed(1)},${(height - 2 - (value / top) * (height - 6)).toFixed(1)}`)
  const last = values.length ? show(values[values.length - 1].value) : "–"
  return (
    <figure class="plot">
      <figcaption>{title} <strong>{last}</strong></figcaption>
      <svg viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" role="img" aria-label={`${title} in the last minutes, at most ${show(top)}`}>
        <polyline points={points.join(" ")} vector-effect="non-scaling-stroke" />
      </svg>
      <details>
        <summary>Values</summary>
        <table>
          <thead><tr><th scope="col">at</th><th scope="col" class="number">{title}</th></tr></thead>
          <tbody>{values.slice(-20).reverse().map(({at, value}) => <tr><td>{clock(at)}</td><td class="number">{show(value)}</td></tr>)}</tbody>
        </table>
      </details>
    </figure>
  )
}

// A button that closes sockets: it says how many, and wants the number typed if there are many.
export function Destroy({label, count, onDo, disabled, yes = "Close them", no = "Keep them"}) {
  const [state, setState] = useState({})
  const needsTyping = count > 100
  const shown = useRef()
  // What was pressed has gone: whoever uses the keyboard goes on where the question, or its answer, is.
  useEffect(() => shown.current?.focus(), [state.isAsking, state.done])
  const run = async () => {
    setState({isRunning: true})
    try {
      setState({done: await onDo()})
    } catch (error) {
      setState({error})
    }
  }
  if (state.done) return <p role="status" tabIndex={-1} ref={shown}>{state.done}</p>
  if (!state.isAsking) {
    return (
      <span>
        <button type="button" class="danger" disabled={disabled || state.isRunning} onClick={() => setState({isAsking: true})}>{label}…</button>
        <Trouble error={state.error} />
      </span>
    )
  }
  const isReady = !needsTyping || state.typed === String(count)
  return (
    <fieldset class="confirm" tabIndex={-1} ref={shown}>
      <legend>{label}: {counted(count, "socket")} will be closed</legend>
      {needsTyping && <Field label={`Type ${count} to go on`}><input inputMode="numeric" onInput={event => setState({...state, typed: event.target.value})} /></Field>}
      <button type="button" class="danger" disabled={!isReady} onClick={run}>{yes}</button>
      <button type="button" onClick={() => setState({})}>{no}</button>
    </fieldset>
  )
}

export const go = path => { location.hash = path }
export const topicLink = topic => <a href={`#/topic/${encodeURIComponent(topic)}`}>{topic}</a>
export const socketLink = socket => <a href={`#/socket/${encodeURIComponent(socket)}`}>{socket}</a>
