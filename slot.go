package ctxlock

import "strings"

// slotOf is the slot of a cluster that a key lives in: CRC-16/XMODEM of the key, or of the part in its first braces, modulo 16384.
func slotOf(key string) int {
	key = hashTag(key)
	var crc uint16
	for i := range len(key) {
		crc = crc<<8 ^ crc16[byte(crc>>8)^key[i]]
	}
	return int(crc) % clusterSlots
}

const clusterSlots = 16384

// hashTag is the part of a key that its slot goes by.
func hashTag(key string) string {
	if _, after, ok := strings.Cut(key, "{"); ok {
		if tag, _, ok := strings.Cut(after, "}"); ok && tag != "" {
			return tag
		}
	}
	return key
}

var crc16 = func() (table [256]uint16) {
	for i := range table {
		crc := uint16(i) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
		table[i] = crc
	}
	return table
}()
