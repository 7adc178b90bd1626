package ctxlock

import (
	"time"

	"github.com/ctxlock/ctxlock/internal/jitter"
)

// backoff spaces out attempts: each pause is drawn from the upper half of a span that grows from first to most.
type backoff struct {
	first, most time.Duration
	span        time.Duration
}

func (b *backoff) next() time.Duration {
	b.span = min(max(2*b.span, b.first), b.most)
	return jitter.Between(b.span/2, b.span)
}

func (b *backoff) reset() { b.span = 0 }

var (
	// afterFault spaces out attempts while servers fail or refuse. A second at the most keeps a waiter near when they are back.
	afterFault = backoff{first: 10 * time.Millisecond, most: time.Second}
	// afterSplit is for claimants who took keys from under each other: apart by more than a round trip, soon.
	afterSplit = backoff{first: 2 * time.Millisecond, most: 250 * time.Millisecond}
	// afterNothing is for hints that come fast and lead nowhere. It starts below what anybody would notice, since hints also come
	// fast where a lock goes from hand to hand.
	afterNothing = backoff{first: 20 * time.Microsecond, most: 50 * time.Millisecond}
	// polling is for stores that send no events.
	polling = backoff{first: 20 * time.Millisecond, most: 500 * time.Millisecond}
)
