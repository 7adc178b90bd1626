package fence

import (
	"strconv"
	"strings"
)

// prefix is where fence keys begin. Braces follow it at once, so that what is in them decides the slot.
const prefix = "ctxlock-fence:"

// fenceKey is the key that remembers the last token for key. No two keys share one, and it is in the slot of key, because a
// script may only use keys of one slot.
func fenceKey(key string) string {
	if tag := hashTag(key); tag != "" {
		return prefix + "{" + tag + "}:" + key
	}
	if !strings.Contains(key, "}") {
		return prefix + "{" + key + "}"
	}
	// Braces around key would end too early. Anything with the slot of key will do for a tag.
	slot := slotOf(key)
	for i := 0; ; i++ {
		if tag := strconv.Itoa(i); slotOf(tag) == slot {
			return prefix + "{" + tag + "}:" + key
		}
	}
}

// hashTag is the part of a key that alone decides its slot: what is between its first opening brace and the next closing one. It
// is empty if there is no such part, and the whole key decides.
func hashTag(key string) string {
	_, after, _ := strings.Cut(key, "{")
	tag, _, closed := strings.Cut(after, "}")
	if !closed {
		return ""
	}
	return tag
}

// slotOf is the slot of a key without a hash tag: its CRC-16/XMODEM modulo 16384.
func slotOf(key string) int {
	var crc uint16
	for i := range len(key) {
		crc ^= uint16(key[i]) << 8
		for range 8 {
			carry := crc >> 15
			crc = crc<<1 ^ carry*0x1021
		}
	}
	return int(crc) % 16384
}
