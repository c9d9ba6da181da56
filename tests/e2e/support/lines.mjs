// Bytes that come in pieces, and are lines.

/** The lines of a stream of bytes, each once it is whole: what is torn off at the end is none. */
export async function* linesOf(bytes) {
  const decoder = new TextDecoder()
  let rest = ""
  for await (const piece of bytes) {
    const lines = (rest + decoder.decode(piece, {stream: true})).split("\n")
    rest = lines.pop()
    yield* lines
  }
}
