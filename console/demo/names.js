// The visitor's name: remembered in this browser, and something friendlier than a number until one is chosen.

const KEY = "fanfare:name"
// Fillers of Hangul, and the blank of Braille: letters and symbols to Unicode, nothing to the eye.
const INVISIBLE = /[\u115f\u1160\u2800\u3164\uffa0]/g
const COLOURS = ["Amber", "Azure", "Copper", "Coral", "Crimson", "Golden", "Indigo", "Ivory", "Jade", "Scarlet", "Silver", "Violet"]
const INSTRUMENTS = ["Bassoon", "Bugle", "Cello", "Clarinet", "Cornet", "Flute", "Horn", "Oboe", "Piccolo", "Trombone", "Trumpet", "Viola"]

export function firstName() {
  const known = remembered() ?? ""
  return isBlank(known) ? `${pick(COLOURS)} ${pick(INSTRUMENTS)}` : known
}

export function rememberName(name) {
  try {
    localStorage.setItem(KEY, name)
  } catch {
    // Storage can be switched off; the name then lasts as long as the page.
  }
}

/** Whether a name has nothing that can be seen: blanks, marks of direction, and letters that are drawn as nothing. */
export function isBlank(name) {
  return !/[\p{L}\p{N}\p{P}\p{S}]/u.test(name.replace(INVISIBLE, ""))
}

/** A hue for the name's avatar, the same for everybody who sees it. */
export function hueOf(name) {
  let hash = 7
  for (const char of name) hash = (hash * 31 + char.codePointAt(0)) % 360
  return hash
}

/** One or two letters that stand for the name. */
export function initialsOf(name) {
  const words = name.trim().split(/\s+/).filter(Boolean)
  return words.slice(0, 2).map(word => [...word][0].toUpperCase()).join("") || "?"
}

function remembered() {
  try {
    return localStorage.getItem(KEY)
  } catch {
    return null
  }
}

function pick(list) {
  return list[Math.floor(Math.random() * list.length)]
}
