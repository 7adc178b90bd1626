package ctxlock

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ctxlock/ctxlock/store"
)

// Mode is how Acquire goes about a lock that another holds.
type Mode int8

const (
	// Wait waits for the lock, as WithContext does.
	Wait Mode = iota
	// Try fails with ErrNotLocked, as TryWithContext does.
	Try
	// Force takes the lock from its holder, as ForceWithContext does.
	Force
)

// AcquireOption says how Acquire takes a lock, and on what terms it is held. The zero value is WithContext, and the zero value of
// each field is its default. Values that make no sense, alone or together, are errors at once, before any server is asked.
type AcquireOption struct {
	// Mode is whether to wait for the lock, to try once, or to take it by force. Default: Wait.
	Mode Mode
	// Retry paces a wait, and ends it: see RetryPolicy. Whatever it says, errors that waiting cannot mend end the call at once. It
	// goes with Wait only. Default: attempts whenever there is word that the lock may be free, or that is due, until ctx ends.
	Retry RetryPolicy
	// Value is a name for the holder, such as a host's: it becomes the last part of the owner value, where Look and whoever reads the
	// key finds it. The part before it is never the same twice, so holders of the same Value exclude each other, too. At most
	// 4 KiB, without line breaks. Default: none.
	Value string
	// ValueFunc makes the whole owner value, for each attempt a new one: non-empty, at most 4 KiB, without line breaks, and
	// never the same twice, since servers tell holders apart by nothing else. Its error ends the call. It is called on the
	// caller's goroutine, so a panic is the caller's to recover, and leaves nothing taken. It goes without Value.
	// Waiters tell by the owner value's beginning whose it is, and look more often at locks of unknown
	// kind; nor does such a value tell the KeyMajority: see LockerOption.KeyMajority.
	// Default: the Locker makes it.
	ValueFunc func() (string, error)
	// Metadata is kept beside the owner value on the servers, in the same key after a line break, for as long as the lock is held.
	// Anything of at most 64 KiB; it travels with each extension, so keep it short. Default: none.
	Metadata string
	// From hands a lock over: it is taken if it is free, or from the holder whose owner value this is (Lock.Value, Status.Value), in another
	// process perhaps, or before a restart; of any other holder it is not. The one that it is taken from has its context ended, with Reason Taken,
	// when word reaches it, and within this Locker before the call returns; not if the call fails: see ForceWithContext. If Replicas are asked for and
	// missing, the lock is free afterwards. It goes with Try and Wait. Default: taken from nobody.
	From string
	// Validity is LockerOption.KeyValidity for this lock, within the same bounds; it is then extended every half of that. Default: KeyValidity.
	Validity time.Duration
	// NoExtend leaves it to the caller to extend the lock (Lock.Extend, Lock.KeepExtended): without that its context ends when
	// the validity is over, less the margin. Default: extended in the background.
	NoExtend bool
	// Fencing takes a fencing token with the lock: see Lock.Token. It costs nothing more with one key, and a second round trip with
	// several. Default: no token.
	Fencing bool
	// Replicas is how many replicas must have acknowledged the lock before it counts, on each node: it costs another round trip
	// and what the replicas take. If fewer do within the time of an attempt (LockerOption.TryNextAfter), the attempt fails with a *ReplicaError, and a
	// wait goes on, outside the queue. The lock then survives the loss of a primary if one of these takes over; extensions are not
	// waited for. Where replicas were missing when last asked, or were not asked yet, they are asked before the lock is claimed, so
	// that others have it meanwhile. Default: 0.
	Replicas int
	// OnError is called with the error of each extension that failed, and at last with the *LostError if the lock is lost. Calls come
	// one at a time, on a goroutine of their own, where a panic ends the program as in any goroutine. Default: not called.
	OnError func(error)
}

const (
	longestValue    = 4 << 10
	longestMetadata = 64 << 10
	mostReplicas    = 1024
)

// check finds what makes no sense.
func (o *AcquireOption) check() error {
	switch {
	case o.Mode < Wait || o.Mode > Force:
		return fmt.Errorf("ctxlock: AcquireOption.Mode is %d: unknown", o.Mode)
	case o.Retry != nil && o.Mode != Wait:
		return errors.New("ctxlock: AcquireOption.Retry goes with Mode Wait only")
	case o.From != "" && o.Mode == Force:
		return errors.New("ctxlock: AcquireOption.From does not go with Mode Force, which takes it from anybody")
	case o.Value != "" && o.ValueFunc != nil:
		return errors.New("ctxlock: AcquireOption has both Value and ValueFunc")
	case len(o.Metadata) > longestMetadata:
		return fmt.Errorf("ctxlock: AcquireOption.Metadata of %d bytes is longer than %d", len(o.Metadata), longestMetadata)
	case o.Replicas < 0 || o.Replicas > mostReplicas:
		return fmt.Errorf("ctxlock: AcquireOption.Replicas is %d, not from 0 to %d", o.Replicas, mostReplicas)
	}
	if err := checkValue("AcquireOption.Value", o.Value); err != nil {
		return err
	}
	if strings.ContainsRune(o.From, metadataMark) {
		return errors.New("ctxlock: AcquireOption.From has a line break: it is an owner value without its metadata")
	}
	if err := checkPolicy(o.Retry); err != nil {
		return err
	}
	if o.Validity == 0 {
		return nil
	}
	return checkValidity("AcquireOption.Validity", o.Validity)
}

// checkValue tells what is wrong with a part of an owner value.
func checkValue(what, value string) error {
	switch {
	case len(value) > longestValue:
		return fmt.Errorf("ctxlock: %s of %d bytes is longer than %d", what, len(value), longestValue)
	case strings.ContainsAny(value, "\r\n"):
		return fmt.Errorf("ctxlock: %s has a line break", what)
	}
	return nil
}

// terms are what a lock is claimed and held on. All locks taken by the drop-in calls share those of their locker.
type terms struct {
	AcquireOption
	validity time.Duration // how long its keys live
	interval time.Duration // how often it is extended
	watcher  *watcher      // tells OnError; nil if there is none
}

// termsOf works out the terms of one call.
func (k *locker) termsOf(option AcquireOption) (*terms, error) {
	if err := option.check(); err != nil {
		return nil, store.Permanent(err)
	}
	t := &terms{AcquireOption: option, validity: k.terms.validity, interval: k.terms.interval}
	if option.ValueFunc != nil {
		k.ownValues.Store(true)
	}
	if option.OnError != nil {
		t.watcher = &watcher{tell: option.OnError}
	}
	if option.Validity != 0 {
		t.validity = wholeMilliseconds(option.Validity)
		t.interval = k.drift.intervalOf(t.validity, 0)
	}
	return t, nil
}

// owner gives the value for one attempt: from the function or, where there is none, empty, for the locker to make it.
func (t *terms) owner() (string, error) {
	if t.ValueFunc == nil {
		return "", nil
	}
	value, err := t.ValueFunc()
	switch {
	case err != nil:
		err = fmt.Errorf("ctxlock: AcquireOption.ValueFunc: %w", err)
	case value == "":
		err = errors.New("ctxlock: AcquireOption.ValueFunc gave an empty value")
	default:
		err = checkValue("AcquireOption.ValueFunc's value", value)
	}
	return value, store.Permanent(err)
}

// Acquire is described at Locker.
func (k *locker) Acquire(ctx context.Context, name string, option AcquireOption) (context.Context, *Lock, error) {
	t, err := k.termsOf(option)
	if err != nil {
		return failed(ctx, err), nil, err
	}
	l, ended, err := k.take(ctx, name, option.Mode, t)
	if err != nil {
		return ended, nil, err
	}
	l.watch(t.watcher)
	return l, &l.handle, nil
}
