// Numbers and times as people read them.

const whole = new Intl.NumberFormat("en", {maximumFractionDigits: 0})
const short = new Intl.NumberFormat("en", {maximumFractionDigits: 1})

export const number = value => (value === undefined || value === null ? "–" : value >= 100 ? whole.format(value) : short.format(value))

export const count = (value, noun) => `${number(value)} ${noun}${value === 1 ? "" : "s"}`

export function bytes(value) {
  if (value === undefined || value === null) return "–"
  const units = ["B", "KiB", "MiB", "GiB", "TiB"]
  let unit = 0
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024
    unit += 1
  }
  return `${number(value)} ${units[unit]}`
}

export function seconds(value) {
  if (value === undefined || value === null) return "–"
  if (value < 60) return `${value} s`
  if (value < 3600) return `${Math.floor(value / 60)} m ${value % 60} s`
  if (value < 86400) return `${Math.floor(value / 3600)} h ${Math.floor((value % 3600) / 60)} m`
  return `${Math.floor(value / 86400)} d ${Math.floor((value % 86400) / 3600)} h`
}

export const clock = moment => new Date(moment).toLocaleTimeString("en-GB")
