/** A channel of the npm package `phoenix`, 1.7 or 1.8. */
export interface Channel {
  topic: string
  join(timeout?: number): unknown
  onMessage(event: string, payload: any, ref: any, joinRef?: any): any
}

/** Messages are missing, so the state that depends on them has to be reloaded. */
export interface Gap {
  /**
   * `not_recovered`: the server no longer has the messages. `no_history`: the topic keeps none. `not_a_position`: the server
   * cannot read `from`, so the channel has joined without it. Anything else is the policy by which the server skipped
   * messages for a slow reader.
   */
  reason: "not_recovered" | "no_history" | "not_a_position" | (string & {})
  /** Messages after this position are missing; null if the topic has no positions. With `not_a_position`, what `from` was. */
  from: string | null
  /** Nothing is missing after this position; null if the topic has no positions. */
  to: string | null
  /** How many messages were skipped for a slow reader. */
  dropped?: number
}

export interface Options {
  /** The position to resume from, such as one stored by an earlier page. */
  from?: string | null
  /** Called when the position has changed, before the callbacks of the message that changed it. */
  onPosition?(position: string): void
  /** Called when messages are missing. */
  onGap?(gap: Gap): void
}

export interface Resuming {
  /** The position of the last message: null until the first join is answered, unless `from` was given. */
  readonly position: string | null
}

/**
 * Makes a channel resume whenever it joins again.
 *
 * @throws Error if the channel has already joined.
 */
export function resume(channel: Channel, options?: Options): Resuming

export interface DeltaOptions {
  /**
   * Called when the server has answered the join that it sends whole messages, once for each reason; without it, a warning is
   * logged. The channel works nevertheless.
   */
  onWhole?(reason: string): void
}

/**
 * Makes a channel take differences: the server tells of a message only what is different from the one before it, and the
 * channel's callbacks get the whole. The topic must have `delta` on the server.
 *
 * @throws Error if the channel has already joined.
 */
export function delta(channel: Channel, options?: DeltaOptions): void
