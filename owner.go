package ctxlock

import (
	"crypto/rand"
	"encoding/base64"
	"strconv"
	"strings"
	"time"
)

// An owner value is what the keys of a lock have as their value while it is held, and what tells one holding from all others:
//
//	ctxlock/<locker>.<time>/<serial>.<time>/<value>
//
// The locker's part is drawn at random, the serial number counts its attempts, and value is AcquireOption.Value, if there is one.
// The times say since when: in milliseconds, the locker's own beginning by the wall clock, and the attempt's counted from there. Metadata follows
// after a line break. Only Look takes a value apart; for everything else it is one string.
const (
	// ownerMark begins the owner values of ctxlock. Waiters tell by it that a holder will touch the wake key.
	ownerMark = "ctxlock/"
	// metadataMark ends the owner value.
	metadataMark = '\n'
)

// newID makes a locker's part of its owner values.
func newID() string {
	var random [16]byte
	rand.Read(random[:]) // never fails
	return ownerMark + base64.RawURLEncoding.EncodeToString(random[:]) + "." + strconv.FormatInt(time.Now().UnixMilli(), 36) + "/"
}

// appendOwner appends an owner value for an attempt that begins now.
func appendOwner(buf []byte, id string, serial uint64, now time.Duration, value string) []byte {
	buf = append(buf, id...)
	buf = strconv.AppendUint(buf, serial, 36)
	buf = append(buf, '.')
	buf = strconv.AppendInt(buf, now.Milliseconds(), 36)
	if value != "" {
		buf = append(append(buf, '/'), value...)
	}
	return buf
}

// ours tells whether an owner value is one of ctxlock's.
func ours(owner string) bool { return strings.HasPrefix(owner, ownerMark) }

// splitOwner tells the owner value from the metadata.
func splitOwner(stored string) (owner, metadata string) {
	owner, metadata, _ = strings.Cut(stored, string(metadataMark))
	return owner, metadata
}

// sinceOf is the time that an owner value tells: when the attempt that took the lock began, by its process's clock. It is zero for
// values of others, and whatever somebody makes up is no more than a wrong time.
func sinceOf(owner string) time.Time {
	parts := strings.SplitN(owner, "/", 4)
	if !ours(owner) || len(parts) < 3 {
		return time.Time{}
	}
	_, began, _ := strings.Cut(parts[1], ".")
	_, after, _ := strings.Cut(parts[2], ".")
	start, err := strconv.ParseInt(began, 36, 64)
	ms, err2 := strconv.ParseInt(after, 36, 64)
	if err != nil || err2 != nil {
		return time.Time{}
	}
	return time.UnixMilli(start + ms)
}
