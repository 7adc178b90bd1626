package ctxlock

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ctxlock/ctxlock/internal/jitter"
	"github.com/ctxlock/ctxlock/store"
)

func TestSettledFillsInDefaults(t *testing.T) {
	o, err := LockerOption{}.settled()
	if err != nil {
		t.Fatal(err)
	}
	if o.KeyPrefix != "valkeylock" || o.KeyValidity != 5*time.Second || o.ExtendInterval != 2500*time.Millisecond ||
		o.KeyMajority != 2 || o.TryNextAfter != 0 {
		t.Errorf("%+v", o)
	}
}

func TestSettledKeepsWhatWasSet(t *testing.T) {
	set := LockerOption{KeyPrefix: "p", KeyValidity: time.Minute, ExtendInterval: time.Second,
		TryNextAfter: time.Millisecond, KeyMajority: 7, NoLoopTracking: true, FallbackSETPX: true}
	o, err := set.settled()
	if err != nil {
		t.Fatal(err)
	}
	if o.KeyPrefix != set.KeyPrefix || o.KeyValidity != set.KeyValidity || o.ExtendInterval != set.ExtendInterval ||
		o.TryNextAfter != set.TryNextAfter || o.KeyMajority != set.KeyMajority || !o.NoLoopTracking || !o.FallbackSETPX {
		t.Errorf("%+v", o)
	}
}

// Whatever is allowed, there is trust between an extension's turn and the end of the trust that it prolongs.
func TestSettledLeavesRoomForAnExtension(t *testing.T) {
	for _, validity := range []time.Duration{
		0, leastValidity, leastValidity + 1, 26 * time.Millisecond, time.Second, time.Second + 1, 5 * time.Second, time.Hour, mostValidity,
	} {
		for _, interval := range []time.Duration{0, min(minExtendInterval, validity/minExtendPart), validity / 2, validity - 1} {
			o, err := LockerOption{KeyValidity: validity, ExtendInterval: max(0, interval)}.settled()
			if err != nil {
				t.Errorf("%v, %v: %v", validity, interval, err)
				continue
			}
			if o.KeyValidity < validity || o.KeyValidity > max(validity, defaultValidity)+time.Millisecond || o.KeyValidity%time.Millisecond != 0 {
				t.Errorf("%v: KeyValidity became %v", validity, o.KeyValidity)
			}
			if o.ExtendInterval <= 0 || o.ExtendInterval >= defaultDrift.windowOf(o.KeyValidity) {
				t.Errorf("%v, %v: ExtendInterval became %v, and the window is %v", validity, interval, o.ExtendInterval, defaultDrift.windowOf(o.KeyValidity))
			}
			if defaultDrift.windowOf(o.KeyValidity) <= 0 || defaultDrift.windowOf(o.KeyValidity) >= o.KeyValidity {
				t.Errorf("%v: the window is %v", validity, defaultDrift.windowOf(o.KeyValidity))
			}
		}
	}
}

func TestTrustUntil(t *testing.T) {
	const sent, second = 100 * time.Second, time.Second
	margin := defaultDrift.marginOf(second)
	for _, test := range []struct {
		what                string
		validity, ttl, want time.Duration
	}{
		{"the full validity", second, second, sent + second - margin},
		{"more time left than was asked for", second, 2 * second, sent + second - margin},
		{"no expiry", second, store.Forever, sent + second - margin},
		{"less time left than was asked for", second, second / 2, sent + second/2 - margin},
		{"no time left", second, 0, sent - margin},
		{"less than the margin left", second, margin / 2, sent - margin/2},
	} {
		if got := defaultDrift.trustUntil(sent, test.validity, test.ttl); got != test.want {
			t.Errorf("%s: until %v, not %v", test.what, got, test.want)
		}
	}
	// Never longer than the key lives, counted from before the request was sent.
	for range 1000 {
		validity := leastValidity + rand.N(time.Hour)
		ttl := rand.N(2 * time.Hour)
		if until := defaultDrift.trustUntil(sent, validity, ttl); until >= sent+min(validity, ttl) {
			t.Fatalf("validity %v, TTL %v: trusted for %v", validity, ttl, until-sent)
		}
	}
}

// lockWith is a lock of which this is known.
func lockWith(majority int, keys ...lockKey) *holding {
	return &holding{k: &locker{majority: majority}, keys: keys}
}

func TestUntilIsWhenTheMajorityCannotBeTrustedAnyMore(t *testing.T) {
	has := func(until time.Duration) lockKey { return lockKey{standing: mine, until: until} }
	lost := func(s standing) lockKey { return lockKey{standing: s, until: 1000} } // what was once believed counts no more
	for _, test := range []struct {
		what     string
		majority int
		keys     []lockKey
		want     time.Duration
	}{
		{"one key", 1, []lockKey{has(5)}, 5},
		{"all alike", 2, []lockKey{has(5), has(5), has(5)}, 5},
		{"the second longest of three", 2, []lockKey{has(3), has(9), has(6)}, 6},
		{"two of three, by the shorter", 2, []lockKey{has(9), lost(gone), has(4)}, 4},
		{"two of three, the third taken", 2, []lockKey{lost(taken), has(4), has(9)}, 4},
		{"two of three, the third unheard of", 2, []lockKey{has(4), has(9), lost(unheard)}, 4},
		{"one of three", 2, []lockKey{has(9), lost(gone), lost(taken)}, 0},
		{"none of three", 2, []lockKey{lost(gone), lost(gone), lost(gone)}, 0},
		{"the third longest of five", 3, []lockKey{has(1), has(2), has(3), has(4), has(5)}, 3},
		{"three of five", 3, []lockKey{has(8), lost(gone), has(7), lost(taken), has(9)}, 7},
		{"two of five", 3, []lockKey{has(8), lost(gone), has(7), lost(taken), lost(unheard)}, 0},
	} {
		if got := lockWith(test.majority, test.keys...).until(); got != test.want {
			t.Errorf("%s: until %d, not %d", test.what, got, test.want)
		}
	}
}

// At the time that until gives, a majority still stands, and just after it none does, for every subset of keys that are ours.
func TestUntilForEverySubset(t *testing.T) {
	for majority := 1; majority <= 4; majority++ {
		n := 2*majority - 1
		for subset := range 1 << n {
			if n == 1 && subset == 0 {
				continue // with one key, a lock that lost it is over
			}
			keys := make([]lockKey, n)
			for i := range keys {
				keys[i].until = 1 + rand.N(time.Duration(10))
				if keys[i].standing = gone; subset&(1<<i) != 0 {
					keys[i].standing = mine
				}
			}
			standing := func(at time.Duration) (count int) {
				for _, key := range keys {
					if key.standing == mine && key.until >= at {
						count++
					}
				}
				return count
			}
			before := slices.Clone(keys)
			until := lockWith(majority, keys...).until()
			if !slices.Equal(keys, before) {
				t.Fatal("the keys were changed")
			}
			if until != 0 && standing(until) < majority {
				t.Fatalf("majority %d, %+v: until %d, when only %d stand", majority, keys, until, standing(until))
			}
			if standing(until+1) >= majority {
				t.Fatalf("majority %d, %+v: only until %d", majority, keys, until)
			}
		}
	}
}

func TestBackoffStaysWithinItsBounds(t *testing.T) {
	for what, of := range map[string]backoff{"fault": afterFault, "split": afterSplit, "polling": polling} {
		for range 100 {
			b := of // as each waiter has its own
			span := time.Duration(0)
			for i := range 40 {
				span = min(max(2*span, b.first), b.most)
				if pause := b.next(); pause < span/2 || pause > span {
					t.Fatalf("%s: pause %d is %v, not from %v to %v", what, i, pause, span/2, span)
				}
			}
			if span != b.most {
				t.Fatalf("%s: it never came to %v", what, b.most)
			}
			b.reset()
			if pause := b.next(); pause > b.first {
				t.Fatalf("%s: after a reset it starts with %v", what, pause)
			}
		}
		if of.first <= 0 || of.most < of.first || of.span != 0 {
			t.Errorf("%s: %+v", what, of)
		}
	}
}

func TestBackoffSpreadsThoseWhoStartTogether(t *testing.T) {
	jitter.Seed(1)
	defer jitter.Seed(0)
	seen := make(map[time.Duration]bool)
	for range 100 {
		b := polling
		for range 5 {
			b.next()
		}
		seen[b.next()/time.Millisecond] = true
	}
	if len(seen) < 30 {
		t.Errorf("100 waiters came at %d different moments", len(seen))
	}
}

func TestPatienceRisesAtOnceAndFallsSlowlyAndIsNeverMoreThanTheWindow(t *testing.T) {
	p := patience{window: 4 * time.Second}
	if got := p.now(); got != leastPatience {
		t.Errorf("at first it is %v", got)
	}
	p.learn(700 * time.Millisecond)
	if got := p.now(); got != 2800*time.Millisecond {
		t.Errorf("after a trip of 700ms it is %v", got)
	}
	p.learn(10 * time.Millisecond)
	if got := p.now(); got <= 2*time.Second || got >= 2800*time.Millisecond {
		t.Errorf("after a shorter one it is %v", got)
	}
	p.learn(time.Minute)
	if got := p.now(); got != p.window {
		t.Errorf("after a trip of a minute it is %v", got)
	}
	set := patience{set: time.Millisecond, window: time.Second}
	set.learn(time.Minute)
	if got := set.now(); got != time.Millisecond {
		t.Errorf("what was set became %v", got)
	}
}
