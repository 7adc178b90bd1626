package ctxlock

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/ctxlock/ctxlock/store"
)

// A try that has failed may be remembered (Contention.TryFromMemory): the keys that it met are being watched from then on, so until word comes
// that one of them has changed, or it should have run out, another try would meet them, too.

// refusal is what is remembered of a name that others hold.
type refusal struct {
	until time.Duration // by then its keys have run out, unless they are extended, which counts as a change
	err   error
	ended context.Context // has ended, with the error as its cause
}

// mostRefusals is how many names are remembered.
const mostRefusals = 4096

// remember notes that a try has met keys of others, so many that no majority is left. Under k.mu, in one step with booking the
// answers: what happens to the keys after that makes it forget.
func (k *locker) remember(l *holding, sent time.Duration, ops []store.Op) {
	ttl, others := store.Forever, 0
	for i := range ops {
		op := &ops[i]
		if op.Err == nil && op.Holder != "" && !op.Mine() && op.TTL > 0 && !k.mayBeOwn(op.Holder) {
			ttl = min(ttl, op.TTL)
			others++
		}
	}
	if l.again || others <= len(ops)-k.majority || !k.store.Watches() {
		return
	}
	for name := range k.refusals {
		if len(k.refusals) < mostRefusals {
			break
		}
		delete(k.refusals, name)
	}
	err := &heldByAnother{name: l.name}
	k.refusals[l.name] = &refusal{until: sent + min(ttl, max(foreverLook, k.terms.validity)), err: err, ended: failed(context.Background(), err)}
}

// mayBeOwn tells whether a key may be this locker's own. A store need not tell of changes that the locker makes itself.
func (k *locker) mayBeOwn(holder string) bool {
	return strings.HasPrefix(holder, k.id) || !ours(holder) && k.ownValues.Load()
}

// heldByAnother is the error of a claim that has met a holder. Most are never looked at, since the wait goes on, so there is no text until
// somebody asks.
type heldByAnother struct {
	name string
	here bool // that one is a caller of this Locker, too
}

func (e *heldByAnother) Error() string {
	return fmt.Sprintf("ctxlock: %s: %v: %s", quote(e.name), ErrNotLocked, heldBy(e.here))
}

// heldBy says who has a lock.
func heldBy(here bool) string {
	if here {
		return "held by another caller of this Locker"
	}
	return "held by another"
}

// isHere tells whether the value of a key is that of a caller of this Locker. Under k.mu.
func (k *locker) isHere(name, holder string) bool {
	if strings.HasPrefix(holder, k.id) {
		return true
	}
	for l := k.locks[name]; l != nil; l = l.next {
		if l.state == held && l.owner == holder {
			return true
		}
	}
	return false
}

// Unwrap makes errors.Is find ErrNotLocked.
func (e *heldByAnother) Unwrap() error { return ErrNotLocked }

// refuse gives what is remembered of a name, or nil if nothing is, or that is over; and what is known without that.
func (k *locker) refuse(name string) *refusal {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.refusals[name]
	switch {
	case k.ended:
		return nil
	case r != nil && k.now() < r.until:
		return r
	case k.heldHere(name): // which needs nobody's word
		err := &heldByAnother{name, true}
		return &refusal{err: err, ended: failed(context.Background(), err)}
	}
	return nil
}

// refusedContext is the context that comes with an error from memory: that of the error, with the values of the caller's.
type refusedContext struct {
	context.Context
	caller context.Context
}

// Value is context.Context's. context.Cause finds the error by it.
func (r refusedContext) Value(key any) any {
	if value := r.Context.Value(key); value != nil {
		return value
	}
	return r.caller.Value(key)
}
