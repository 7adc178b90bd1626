package ctxlock

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/valkey-io/valkey-go"

	"github.com/ctxlock/ctxlock/internal/bounds"
	"github.com/ctxlock/ctxlock/store"
)

// LockerOption configures a Locker. Its fields are those of valkeylock.LockerOption, under the same names and with the same
// meanings, so that one converts to the other. The zero value of each field is its default. NewLocker works on a copy.
type LockerOption struct {
	// ClientBuilder builds the client from the ClientOption that it is given, which carries what tracking needs. A client
	// that was built from anything else brings no invalidations; the Locker notices and polls. A panic in it is that of the call
	// which makes the Locker. Nil means valkey.NewClient.
	ClientBuilder func(option valkey.ClientOption) (valkey.Client, error)
	// KeyPrefix is the first part of every key: prefix:i:name; beside it, while somebody waits, the queue prefix:Z:{prefix:0:name}, the list of who waits
	// with the letter Q, and, where there is no queue, the wake key with W; counters of fencing tokens, T, live an hour longer. Names that
	// contain braces have those as prefix:z:name, q, w and t. All who are to exclude each other need the same.
	// The default is "valkeylock".
	KeyPrefix string
	// ClientOption is what the client is built from: addresses, user, TLS, Sentinel or Cluster. The Locker needs one
	// pipelined connection for each node and talks to primaries, so it sets PipelineMultiplex, BlockingPipeline,
	// DisableAutoPipelining, AlwaysPipelining, DisableRetry, SendToReplicas, ClientTrackingOptions and OnInvalidations on its copy (an
	// OnInvalidations of yours is called as well); functions of yours in it are called by the client, on goroutines of its own, where a
	// panic ends the program; a Dialer.KeepAlive of zero becomes 2s. With DisableCache there is no tracking, and the Locker polls: see NewLocker.
	ClientOption valkey.ClientOption
	// KeyValidity is how long a key lives without being extended, and so how long a lock stays taken after its holder has
	// crashed; waiters then come up to 150 ms later, so as not to come all at once. At least 25ms, of which the margin takes a
	// quarter, and at most ten years. The default is 5s.
	KeyValidity time.Duration
	// ExtendInterval is how often a lock that is held is extended. It must be below KeyValidity, and is cut to seven
	// eighths of the trust window, which is KeyValidity less the margin of 5 % and 5ms. At least 10ms, or a twentieth of
	// KeyValidity where that is less: the lock is kept no better by more than 20 extensions in a validity, and each is a
	// request for each lock. The default is half of KeyValidity.
	ExtendInterval time.Duration
	// TryNextAfter is how long one node may take to answer before an attempt stops counting on it. What you set is kept. At
	// least 1ms, since with less a busy machine fails attempts that its server has granted; at most ten years. The
	// default adapts: 1.5s, or four times the round trip that was measured where that is more, but never more than the trust window.
	TryNextAfter time.Duration
	// KeyMajority is N in "at least N of 2N-1 keys make a lock", at most 1024. With one server, 1 does the same for a third
	// of the work. All who are to exclude each other need the same: a claim that meets a ctxlock with another
	// one fails with a *MajorityError, and beside a valkeylock with another one a lock is refused where valkeylock
	// refuses it. Three things are not found out. A force takes the keys of its own majority only, so a
	// holder with a greater one may go on beside it until it gives the lock back. Owner values by
	// AcquireOption.ValueFunc tell no majority: beside a holder with one, and a lesser majority, a
	// claim may succeed. And in a cluster, where the keys are on several nodes, a lock may be handed
	// out before the first key has answered; a ctxlock that is met then ends it, as lost.
	// The default is 2.
	KeyMajority int32
	// NoLoopTracking asks the server not to tell this Locker of changes that it made itself (CLIENT TRACKING NOLOOP), which
	// saves traffic. All nodes must be at least Redis 7.0.5 or Valkey. The default is false.
	NoLoopTracking bool
	// FallbackSETPX expires keys by SET PX in place of PXAT, for servers before 6.2. The default is false.
	FallbackSETPX bool
}

const (
	defaultPrefix   = "valkeylock"
	defaultValidity = 5 * time.Second
	defaultMajority = 2
	mostMajority    = 1024
	leastValidity   = 25 * time.Millisecond
	mostValidity    = 10 * 365 * 24 * time.Hour
	longestName     = 64 << 10

	// minAttemptTimeout is the least that TryNextAfter may be.
	minAttemptTimeout = time.Millisecond
	// minExtendInterval is the least that ExtendInterval may be, or a part of KeyValidity where
	// that is less.
	minExtendInterval = 10 * time.Millisecond
	minExtendPart     = 20

	// leastPatience is what the default of TryNextAfter does not go below. Giving up on a node early gains nothing while
	// nobody else could answer in its place, and a second's round trip must be survived when it comes without warning.
	leastPatience = 1500 * time.Millisecond
)

// drift is how far clocks may drift apart, as a part of the time that passes.
type drift float64

// defaultDrift covers clocks that run at different rates, steps of the server's wall clock too small to be told from them, and the
// time between a timer that is due and the context that it ends. Redlock's 1 % + 2 ms covers the first only, so it was widened
// until a loaded 2-core machine kept within it.
const defaultDrift drift = 0.05

// marginOf is the part of a validity that trust leaves unused.
func (d drift) marginOf(validity time.Duration) time.Duration {
	if d == defaultDrift {
		return validity/20 + 5*time.Millisecond // exactly
	}
	return scale(validity, float64(d)) + 5*time.Millisecond
}

// scale is a part of a time.
func scale(d time.Duration, part float64) time.Duration { return time.Duration(float64(d) * part) }

// windowOf is how long after it was sent a request that gave a key its full validity lets its sender believe in it.
func (d drift) windowOf(validity time.Duration) time.Duration {
	return validity - d.marginOf(validity)
}

// intervalOf is how often a lock of some validity is extended: as often as wanted, or every half of it. An extension needs time to be
// answered before the trust that it prolongs has ended.
func (d drift) intervalOf(validity, wanted time.Duration) time.Duration {
	if wanted == 0 {
		wanted = validity / 2
	}
	window := d.windowOf(validity)
	return min(wanted, window-window/8)
}

// checkSpan tells what is wrong with a duration that was given.
func checkSpan(what string, d, least, most time.Duration) error {
	if err := bounds.Check(what, d, least, most); err != nil {
		return store.Permanent(fmt.Errorf("ctxlock: %w", err))
	}
	return nil
}

// checkValidity tells what is wrong with a validity that was given.
func checkValidity(what string, validity time.Duration) error {
	return checkSpan(what, validity, leastValidity, mostValidity)
}

// wholeMilliseconds rounds up: servers count whole milliseconds, and a key must never live shorter than its holder thinks.
func wholeMilliseconds(validity time.Duration) time.Duration {
	if rest := validity % time.Millisecond; rest != 0 {
		return validity + time.Millisecond - rest
	}
	return validity
}

// settled checks the option and fills in its defaults.
func (o LockerOption) settled() (LockerOption, error) { return o.settledWith(defaultDrift) }

func (o LockerOption) settledWith(d drift) (LockerOption, error) {
	switch {
	case o.KeyValidity < 0:
		return o, fmt.Errorf("ctxlock: KeyValidity is negative: %v", o.KeyValidity)
	case o.ExtendInterval < 0:
		return o, fmt.Errorf("ctxlock: ExtendInterval is negative: %v", o.ExtendInterval)
	case o.TryNextAfter < 0:
		return o, fmt.Errorf("ctxlock: TryNextAfter is negative: %v", o.TryNextAfter)
	case o.KeyMajority < 0 || o.KeyMajority > mostMajority:
		return o, fmt.Errorf("ctxlock: KeyMajority is %d, not from 1 to %d", o.KeyMajority, mostMajority)
	case o.ClientOption.ReplicaOnly:
		return o, errors.New("ctxlock: ClientOption.ReplicaOnly: locks are kept on primaries")
	}
	if o.KeyPrefix == "" {
		o.KeyPrefix = defaultPrefix
	}
	if o.KeyMajority == 0 {
		o.KeyMajority = defaultMajority
	}
	if o.KeyValidity == 0 {
		o.KeyValidity = defaultValidity
	}
	if err := o.checkDurations(); err != nil {
		return o, err
	}
	if err := checkClient("ClientOption", o.ClientOption); err != nil {
		return o, err
	}
	o.KeyValidity = wholeMilliseconds(o.KeyValidity)
	o.ExtendInterval = d.intervalOf(o.KeyValidity, o.ExtendInterval)
	return o, nil
}

// checkDurations finds durations that are too short or too long. Zero is the default.
func (o *LockerOption) checkDurations() error {
	if err := checkValidity("KeyValidity", o.KeyValidity); err != nil {
		return err
	}
	if o.ExtendInterval >= o.KeyValidity {
		return fmt.Errorf("ctxlock: ExtendInterval %v is not below KeyValidity %v", o.ExtendInterval, o.KeyValidity)
	}
	if o.ExtendInterval != 0 {
		least := min(minExtendInterval, o.KeyValidity/minExtendPart)
		if err := checkSpan("ExtendInterval", o.ExtendInterval, least, o.KeyValidity-1); err != nil {
			return err
		}
	}
	if o.TryNextAfter != 0 {
		return checkSpan("TryNextAfter", o.TryNextAfter, minAttemptTimeout, mostValidity)
	}
	return nil
}

// checkClient finds times of a client in which no server can answer: they lack their unit. Zero is
// the default.
func checkClient(what string, o valkey.ClientOption) error {
	for _, t := range []struct {
		field string
		time.Duration
	}{{"Dialer.Timeout", o.Dialer.Timeout}, {"ConnWriteTimeout", o.ConnWriteTimeout}} {
		if t.Duration > 0 && t.Duration < minAttemptTimeout {
			return checkSpan(what+"."+t.field, t.Duration, minAttemptTimeout, math.MaxInt64)
		}
	}
	return nil
}
