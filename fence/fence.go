// Package fence keeps late writers out of what a lock guards: it checks fencing tokens for resources that live in Valkey or
// Redis.
//
// A lock cannot stop a process that believes it holds it. A process may be paused between looking at its lock's context and
// writing, by its garbage collector, its hypervisor or a suspended laptop, for longer than the lock lives without it. When it
// goes on, another has held the lock, and it writes all the same. Only the resource can refuse that write, and for that it needs
// to know which holding a write comes from. That is what a fencing token is: a number that is greater for each holding of one
// name.
//
//	ctx, lock, err := locker.Acquire(ctx, "stock/42", ctxlock.AcquireOption{Fencing: true})
//	if err != nil {
//		return err
//	}
//	defer lock.Release(context.Background())
//
//	stock := fence.Resource{Client: client, Key: "stock:42"}
//	_, err = stock.Do(ctx, lock.Token(), "HSET", "amount", "17") // HSET stock:42 amount 17
//	if errors.Is(err, fence.ErrStale) {
//		// somebody has held the lock since, and has been here: nothing was written
//	}
//
// Of several locks that were taken together (AcquireAll), each has a token of its own:
// lock.Each()[i].Token() guards what the i-th name stands for.
//
// # What is promised
//
// Once a call with a token has passed, no call with a smaller token passes on the same resource, and what a call writes is
// written in one atomic step with the check. Whoever writes without a token is not held back: a plain HSET on the same key knows
// nothing of this package. So all writers of a resource should go through it, and all their tokens should come from locks of one
// name.
//
// A newer holder that has not yet been to the resource is unknown there, and the older one still passes. That is harmless where
// each holder reads what it needs after it has called Check or Do, and else it may have read what the older one then changes.
// Likewise each Resource remembers for itself: a holder that is to write to several calls Check on all of them before it relies
// on any.
//
// The last token seen is data like any other: it is as durable as the server, is lost where the server is emptied, and may be
// evicted where the server evicts keys (maxmemory-policy). It sets out on the way to replicas together with what was written. Keep
// and Forget end it on purpose. With it goes what is promised.
//
// Resources elsewhere do the same check in their own way: docs/fencing.md has it for SQL.
package fence

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/valkey-io/valkey-go"

	"github.com/ctxlock/ctxlock/internal/bounds"
)

// ErrStale is found, with errors.Is, in every *StaleError.
var ErrStale = errors.New("stale fencing token")

// StaleError tells that a call came too late: a greater token has been seen, so another has held the lock since. Nothing was
// written, and no repetition will help; what is still to be done needs the lock again.
type StaleError struct {
	// Key is Resource.Key.
	Key string
	// Token is the token of the call.
	Token int64
	// Seen is the greatest token that the resource has seen.
	Seen int64
}

// Error says which resource refused which token, and why.
func (e *StaleError) Error() string {
	return fmt.Sprintf("fence: %.64q: token %d is stale, %d has been seen", e.Key, e.Token, e.Seen)
}

// Unwrap gives ErrStale.
func (e *StaleError) Unwrap() error { return ErrStale }

// Resource is one key of a server that is written to under a lock, with the memory of the greatest token that has come with a
// write. It holds nothing itself, so it may be made anew for each write, by any process. Its methods are safe for concurrent use;
// its fields are not to be changed meanwhile.
//
// The memory is a key of its own, in the same slot of a cluster whatever Key is: "ctxlock-fence:{Key}", or
// "ctxlock-fence:{tag}:Key" where Key has a hash tag. (Where Key has a closing brace but no tag, a number stands for the tag; to
// find it costs a millisecond or more in each call.) A user of the server needs access to both keys, and to EVALSHA, EVAL, GET, SET
// and PTTL (and DEL, to Forget) beside the commands that Do is to run.
//
// Methods block until the server has answered, as the client does, or until ctx ends. An error that is neither a *StaleError nor
// the server's (a *valkey.ValkeyError, by errors.As) leaves open whether the call was carried out. Calling again with the same
// token is then in order: a token that equals the last one seen passes.
type Resource struct {
	// Client reaches the server. It stays the caller's to close.
	Client valkey.Client
	// Key is the key that is guarded. Not empty.
	Key string
	// Keep is how long the last token is remembered after the last call that passed, in whole milliseconds, rounded up. Less
	// than 1ms is an error: it would be forgotten before anybody could come late. It is for
	// resources that come and go by the million. It is safe where no writer comes back from a pause that was longer, and takes
	// the protection from those that do; hours are cheap. All writers should use the same. Default: for ever.
	Keep time.Duration
}

// Do runs a command with Key as its first argument and args behind that, if token is not below the greatest one that the resource
// has seen, which it is from now on. Do(ctx, token, "SET", "x") runs SET Key x. It takes one round trip, two where the server
// does not know the script yet.
//
// It returns what the server answered; a null is no error here: see IsNil. If the token is stale, the command does not run and
// the error is a *StaleError. If the command fails by itself, as by WRONGTYPE, the error is the server's, and the token counts as
// seen.
//
// The command runs in a script. So it must be one that scripts may run, blocking commands do not block, replies are as in RESP2
// (a hash is an array; AsStrMap takes both), integers beyond 2^53 come back rounded, and there is room for some 7,900 arguments.
// Commands with several keys may be run, but only Key is guarded. A repetition runs the command again, which matters for those
// such as INCR.
func (r *Resource) Do(ctx context.Context, token int64, command string, args ...string) (valkey.ValkeyMessage, error) {
	if command == "" {
		return valkey.ValkeyMessage{}, errors.New("fence: empty command")
	}
	return r.run(ctx, token, append([]string{command}, args...)...)
}

// Check is Do without a command: it returns nil if token is not below the greatest one that the resource has seen, which it is
// from now on, so that no holder from before can write any more. It returns a *StaleError otherwise.
func (r *Resource) Check(ctx context.Context, token int64) error {
	_, err := r.run(ctx, token)
	return err
}

// Seen reads the greatest token that the resource has seen; 0 if none has come yet, or none is remembered. It may be out of date
// on return, and comes from a replica if the client reads from those, so it is for people to look at: decide by Do and Check.
func (r *Resource) Seen(ctx context.Context) (int64, error) {
	if err := r.check(ctx); err != nil {
		return 0, err
	}
	text, err := r.Client.Do(ctx, r.Client.B().Get().Key(fenceKey(r.Key)).Build()).ToString()
	if valkey.IsValkeyNil(err) {
		return 0, nil
	}
	if err != nil {
		return 0, r.failed(err)
	}
	seen, ok := parseToken(text)
	if !ok {
		return 0, r.failed(errNoToken)
	}
	return seen, nil
}

// Forget deletes the memory of tokens, whatever is in its place, and leaves Key alone. From then on every token passes, so it is
// for resources that are gone for good, and for repairs. It is safe once no holder from before can still be writing. Forgetting
// twice is no error.
func (r *Resource) Forget(ctx context.Context) error {
	if err := r.check(ctx); err != nil {
		return err
	}
	if err := r.Client.Do(ctx, r.Client.B().Del().Key(fenceKey(r.Key)).Build()).Error(); err != nil {
		return r.failed(err)
	}
	return nil
}

// check finds what makes no sense, and calls that would come too late anyway.
func (r *Resource) check(ctx context.Context) error {
	switch {
	case r == nil || r.Client == nil:
		return errors.New("fence: no client")
	case r.Key == "":
		return errors.New("fence: empty key")
	case r.Keep < 0:
		return r.failed(fmt.Errorf("negative Keep: %v", r.Keep))
	case r.Keep != 0 && r.Keep < time.Millisecond:
		return r.failed(bounds.Check("Keep", r.Keep, time.Millisecond, math.MaxInt64))
	case ctx == nil:
		return r.failed(errors.New("no context"))
	case ctx.Err() != nil:
		return r.failed(ctx.Err())
	}
	return nil
}

func (r *Resource) failed(err error) error { return fmt.Errorf("fence: %.64q: %w", r.Key, err) }
