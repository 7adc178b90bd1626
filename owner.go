package ctxlock

import (
	"crypto/rand"
	"encoding/base64"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// An owner value is what the keys of a lock have as their value while it is held, and what tells one holding from all others:
//
//	ctxlock/<locker>~<majority>.<time>/<moment>/<value>
//
// That of a wait that stands in the queue on the server has a "+" before the moment: who reads it there knows that the holder will pass the lock on.
// That of a locker without a queue has a "-": its holder will not.
//
// The locker's part is drawn at random. The majority is its KeyMajority: lockers that differ in that do not exclude each other, so they must notice. Values
// of versions before that do not have it. The time is when it began by the wall clock, in milliseconds, and the moment when the attempt did, in
// microseconds from there, but never the same twice; value is AcquireOption.Value, if there is one. Metadata follows after a line break.
// Only Look takes a value apart; for everything else it is one string. Without a value it is at most 44 bytes long, which servers keep in one
// piece with the key.
const (
	// ownerMark begins the owner values of ctxlock. Waiters tell by it that a holder will touch the wake key.
	ownerMark = "ctxlock/"
	// queuedMark begins the moment of a holder that passes the lock on.
	queuedMark = '+'
	// majorityMark begins the majority. Neither base 64 nor anything that takes values apart knows it.
	majorityMark = '~'
	// queuelessMark begins the moment of a holder that does not.
	queuelessMark = '-'
	// metadataMark ends the owner value.
	metadataMark = '\n'
)

// newID makes a locker's part of its owner values.
func newID(majority int) string {
	var random [9]byte
	rand.Read(random[:]) // never fails
	return ownerMark + base64.RawURLEncoding.EncodeToString(random[:]) + string(majorityMark) + strconv.Itoa(majority) + "." +
		strconv.FormatInt(time.Now().UnixMilli(), 36) + "/"
}

// majorityOf is the KeyMajority of the locker that an owner value is of; zero if it does not tell.
func majorityOf(owner string) int {
	rest, ok := strings.CutPrefix(owner, ownerMark)
	if !ok {
		return 0
	}
	locker, _, _ := strings.Cut(rest, "/")
	_, rest, _ = strings.Cut(locker, string(majorityMark))
	digits, _, _ := strings.Cut(rest, ".")
	majority, err := strconv.Atoi(digits)
	if err != nil || majority < 1 || majority > mostMajority {
		return 0
	}
	return majority
}

// peerValue is how long the owner values of valkeylock are, which are random bytes.
const peerValue = 24

// ofPeer tells whether an owner value may be one of valkeylock's.
func ofPeer(owner string) bool { return len(owner) == peerValue && !ours(owner) }

// moments gives the moment of an attempt: what the clock says, or the next that was not given yet.
type moments struct{ last atomic.Int64 }

func (m *moments) next(now time.Duration) int64 {
	for {
		last := m.last.Load()
		moment := max(last+1, now.Microseconds())
		if m.last.CompareAndSwap(last, moment) {
			return moment
		}
	}
}

// appendOwner appends an owner value for the attempt of a moment.
func appendOwner(buf []byte, id string, queued, queueless bool, moment int64, value string) []byte {
	buf = append(buf, id...)
	switch {
	case queued:
		buf = append(buf, queuedMark)
	case queueless:
		buf = append(buf, queuelessMark)
	}
	buf = strconv.AppendInt(buf, moment, 36)
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
	start, err := strconv.ParseInt(began, 36, 64)
	moment, err2 := strconv.ParseInt(strings.TrimLeft(parts[2], string(queuedMark)+string(queuelessMark)), 36, 64)
	if err != nil || err2 != nil {
		return time.Time{}
	}
	return time.UnixMilli(start).Add(time.Duration(moment) * time.Microsecond)
}
