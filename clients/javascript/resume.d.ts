/** A channel of the npm package `phoenix`, 1.7 or 1.8. */
export interface Channel {
  topic: string
  join(timeout?: number): unknown
  onMessage(event: string, payload: any, ref: any, joinRef?: any): any
}

/** Messages are missing: the state that they would have led to has to be loaded anew. */
export interface Gap {
  /**
   * `not_recovered`: the server has not kept so much. `no_history`: the topic keeps nothing. Anything else is the
   * policy by which the server left messages out for a slow reader.
   */
  reason: "not_recovered" | "no_history" | (string & {})
  /** Behind which position messages are missing; null where the topic has none. */
  from: string | null
  /** Behind which position everything follows; null where the topic has none. */
  to: string | null
  /** How many messages were left out for a slow reader. */
  dropped?: number
}

export interface Options {
  /** The position of an earlier page, to go on from there. */
  from?: string | null
  /** Called when the position has moved, before the callbacks of the message that moved it. */
  onPosition?(position: string): void
  /** Called when messages are missing. */
  onGap?(gap: Gap): void
}

export interface Resuming {
  /** Behind which message the channel stands: null until the first join is answered, unless `from` was given. */
  readonly position: string | null
}

/**
 * Makes a channel go on where it was, whenever it joins again.
 *
 * @throws Error if the channel was joined already.
 */
export function resume(channel: Channel, options?: Options): Resuming
