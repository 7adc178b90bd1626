package ctxlock

import (
	"strconv"
	"strings"
)

// A lock's keys are valkeylock's, so that a fleet can run both: prefix:i:name. Beside them there is the wake key, which only
// ctxlock's waiters know. It has a mark in the place of the number, and lives in the slot of key 0 wherever that is possible without
// a change to key 0: braces around key 0 do that, unless it has a hash tag itself, which then does the same without them. Only a
// closing brace without an opening one stands in the way of both.
const (
	wakeMark     = "w" // prefix:w:name
	wakeSlotMark = "W" // prefix:W:{prefix:0:name}

	// The counters of fencing tokens have names of the same kind, one for each key.
	counterMark     = "t" // prefix:t:i:name
	counterSlotMark = "T" // prefix:T:{prefix:i:name}
	// Who waits for a name is kept on a list.
	listMark     = "q" // prefix:q:name
	listSlotMark = "Q" // prefix:Q:{prefix:0:name}
)

func keyOf(prefix string, i int, name string) string {
	return string(appendKey(nil, prefix, i, name))
}

func appendKey(buf []byte, prefix string, i int, name string) []byte {
	buf = append(append(buf, prefix...), ':')
	buf = append(strconv.AppendInt(buf, int64(i), 10), ':')
	return append(buf, name...)
}

func wakeKeyOf(prefix, name string) string {
	return besideKey(prefix, wakeMark, wakeSlotMark, "", 0, name)
}

func listKeyOf(prefix, name string) string {
	return besideKey(prefix, listMark, listSlotMark, "", 0, name)
}

func counterKeyOf(prefix string, i int, name string) string {
	return besideKey(prefix, counterMark, counterSlotMark, strconv.Itoa(i)+":", i, name)
}

// besideKey is a key in the slot of key i, if that is possible. number tells those of several keys of one lock apart.
func besideKey(prefix, mark, slotMark, number string, i int, name string) string {
	key := keyOf(prefix, i, name)
	if hashTag(key) != key || strings.Contains(key, "}") {
		return prefix + ":" + mark + ":" + number + name
	}
	return prefix + ":" + slotMark + ":{" + key + "}"
}

// parseKey takes a key apart that a server spoke of. Anything may stand under the prefix, and servers speak of foreign keys
// too, so nothing is taken for granted: ok is false for every key that keyOf and wakeKeyOf do not make.
func parseKey(prefix, key string, keys int) (name string, i int, wake, ok bool) {
	rest, found := strings.CutPrefix(key, prefix+":")
	if !found {
		return "", 0, false, false
	}
	mark, name, found := strings.Cut(rest, ":")
	if !found || name == "" {
		return "", 0, false, false
	}
	switch mark {
	case wakeSlotMark:
		name = strings.TrimSuffix(strings.TrimPrefix(name, "{"+prefix+":0:"), "}")
		fallthrough
	case wakeMark:
		return name, 0, true, name != "" && wakeKeyOf(prefix, name) == key
	}
	i, err := strconv.Atoi(mark)
	if err != nil || i < 0 || i >= keys || strconv.Itoa(i) != mark {
		return "", 0, false, false
	}
	return name, i, false, true
}
