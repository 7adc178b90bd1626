// Package conformance is what every locker promises on whatever store, and what every store promises to the engine, as tests.
//
// The same tests run in real time against servers and in fake time, in a bubble of testing/synctest, against memory. No sleep
// decides them: what must happen is waited for, up to a deadline that is only ever reached by a failure, and
// what must not happen is looked for after Settle, which in real time may miss it but never invents it.
package conformance

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"math/rand/v2"

	"github.com/ctxlock/ctxlock"
)

// Fleet is the server of one test, and what runs on it.
type Fleet interface {
	// NewLocker returns another locker, as of another process. The test closes it.
	NewLocker(option ctxlock.LockerOption) ctxlock.Locker
	// Keys returns the keys on all nodes. Keys of others may be among them; those with the prefix that the test gave to
	// NewLocker are its own.
	Keys() []string
	// Delete deletes keys behind the lockers' backs, all at once.
	Delete(keys ...string)
	// TTL is how long a key has left to live: 0 if there is none.
	TTL(key string) time.Duration
	// Settle gives what is under way the time to happen. In a bubble it is synctest.Wait.
	Settle()
}

// Breaker is a Fleet that can cut a locker off from its server.
type Breaker interface {
	Fleet
	// NewBreakable is NewLocker, with a function that stops the link to the server and lets it go on.
	NewBreakable(option ctxlock.LockerOption) (locker ctxlock.Locker, stall func(on bool))
}

// patience is how long what must happen may take. It is only ever waited for in full by a test that fails.
const patience = 20 * time.Second

// eventually waits until something is so.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited for %v in vain: %s", patience, what)
		}
	}
}

// within waits for a channel to be closed.
func within(t testing.TB, what string, done <-chan struct{}) {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
		t.Fatalf("waited for %v in vain: %s", patience, what)
	}
}

var uniques atomic.Uint64

// unique returns a string that no other test, here or in another process, has.
func unique(prefix string) string {
	return fmt.Sprintf("%s%x-%d", prefix, rand.Uint64(), uniques.Add(1))
}

// oddNames are names as nobody should choose them, all of them allowed.
func oddNames() []string {
	return []string{
		":", "::", "a:b", ":0:", "0:", " ", "\n", "\x00", "nul\x00nul", "\xff\xfe invalid", "{", "}", "{}", "{a}", "}{", "{{a}}",
		"%s%d", "*", "?[a]", "\\", "\"", "'", "名前", "\r\nDEL x\r\n", strings.Repeat("long", 4<<10), strings.Repeat("x", 64<<10),
	}
}
