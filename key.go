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
	// They stand in a queue, and where a message cannot reach them, each has a key there that is touched to tell them, and never stays: the
	// queue's, a colon, and the locker's name.
	queueMark     = "z" // prefix:z:name
	queueSlotMark = "Z" // prefix:Z:{prefix:0:name}
	pauseMark     = "y" // prefix:y:name, for some milliseconds, while those who stand in the queue leave the lock to others
	pauseSlotMark = "Y" // prefix:Y:{prefix:0:name}
	replicaMark   = "r" // prefix:r:{tag}, while it is found out whether replicas acknowledge
	callMark      = "x" // prefix:x:name, for half a validity after the roll was called, and a moment after the lock was left free on purpose
	callSlotMark  = "X" // prefix:X:{prefix:0:name}
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

func queueKeyOf(prefix, name string) string {
	return besideKey(prefix, queueMark, queueSlotMark, "", 0, name)
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
// too, so nothing is taken for granted: ok is false for every key that is not made here. wake tells that it is not one of the lock's own, but one that wakes.
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
	case queueMark, queueSlotMark:
		return parseInboxKey(prefix, key)
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

// parseInboxKey is parseKey for a waiter's inbox.
func parseInboxKey(prefix, key string) (name string, i int, wake, ok bool) {
	queue, locker, found := cutLast(key, ":")
	if !found || locker == "" {
		return "", 0, false, false
	}
	rest := queue[min(len(prefix)+len(":z:"), len(queue)):]
	for _, name := range []string{strings.TrimSuffix(strings.TrimPrefix(rest, "{"+prefix+":0:"), "}"), rest} {
		if name != "" && queueKeyOf(prefix, name) == queue {
			return name, 0, true, true
		}
	}
	return "", 0, false, false
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
