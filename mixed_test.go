package ctxlock_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/valkey-io/valkey-go/valkeylock"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/lab"
)

// How a fleet of both kinds shares one name, by share and by wait:
//
//	CTXLOCK_SERVER=… go test . -run '^$' -bench Mixed -benchtime 1x

// mixedFleet is lockers of both kinds that take one name in turn, as fast as they can.
type mixedFleet struct {
	ours, theirs int
	equals       bool // ours do without the queue
	majority     int32
	hold         time.Duration
	calls        int // goroutines in each of our lockers; zero is one
}

func (f mixedFleet) String() string {
	kind := "ctxlock"
	if f.equals {
		kind = "queueless"
	}
	if f.calls > 1 {
		kind += fmt.Sprintf(" with %d calls each", f.calls)
	}
	return fmt.Sprintf("%d %s, %d valkeylock, majority %d, held for %v", f.ours, kind, f.theirs, f.majority, f.hold)
}

// member is what one locker of a fleet had.
type member struct {
	ours bool

	mu    sync.Mutex
	waits []time.Duration // of each holding, and of the one that it had not got in the end
	held  int
}

// waited notes a wait.
func (m *member) waited(d time.Duration, got bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.waits = append(m.waits, d)
	if got {
		m.held++
	}
}

// part is what all members of a kind had.
type part struct {
	least, most, sum int
	p99, longest     time.Duration
}

func (p part) String() string {
	return fmt.Sprintf("%d holdings, %d to %d each, waits p99 %v, longest %v", p.sum, p.least, p.most,
		p.p99.Round(10*time.Microsecond), p.longest.Round(10*time.Microsecond))
}

// partOf sums up some members.
func partOf(members []*member) (p part) {
	var waits []time.Duration
	p.least = -1
	for _, m := range members {
		waits = append(waits, m.waits...)
		p.sum += m.held
		p.most = max(p.most, m.held)
		if p.least < 0 || m.held < p.least {
			p.least = m.held
		}
	}
	slices.Sort(waits)
	if len(waits) > 0 {
		p.p99, p.longest = waits[(len(waits)-1)*99/100], waits[len(waits)-1]
	}
	return p
}

// outcome is what a fleet did.
type outcome struct {
	members  []*member
	overlaps int64
}

func (o outcome) part(ours bool) part {
	return partOf(slices.DeleteFunc(slices.Clone(o.members), func(m *member) bool { return m.ours != ours }))
}

// equal is the share of a locker if all had the same.
func (o outcome) equal() float64 { return float64(partOf(o.members).sum) / float64(len(o.members)) }

func (o outcome) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "equal share %.0f", o.equal())
	if p := o.part(true); p.least >= 0 {
		fmt.Fprintf(&s, "\n    ours:   %v; idlest has %.2f of an equal share", p, float64(p.least)/o.equal())
	}
	if p := o.part(false); p.least >= 0 {
		fmt.Fprintf(&s, "\n    theirs: %v; idlest has %.2f of an equal share", p, float64(p.least)/o.equal())
	}
	return s.String()
}

// run has a fleet at work on one name for a while, from when each kind has had it.
func (f mixedFleet) run(address, name string, d time.Duration) (o outcome, err error) {
	ctx, end := context.WithCancel(context.Background())
	defer end()
	var stop atomic.Bool
	var inside, overlaps atomic.Int64
	var counts atomic.Int64 // from when holdings count: the kinds have met
	var met [2]sync.Once
	both := make(chan struct{}, 2)
	var work sync.WaitGroup
	start := make(chan struct{})
	for i := range f.ours + f.theirs {
		m, kind := &member{ours: i < f.ours}, 0
		if m.ours {
			kind = 1
		}
		take, closes, made := f.open(m.ours, address)
		if err = made; err != nil {
			break
		}
		defer closes()
		o.members = append(o.members, m)
		calls := 1
		if m.ours {
			calls = max(1, f.calls)
		}
		for range calls {
			work.Go(func() {
				<-start
				for !stop.Load() {
					asked := time.Now()
					_, cancel, err := take(ctx, name)
					if from := counts.Load(); from > 0 && asked.UnixNano() >= from {
						m.waited(time.Since(asked), err == nil)
					}
					if err != nil {
						return
					}
					met[kind].Do(func() { both <- struct{}{} })
					if inside.Add(1) > 1 {
						overlaps.Add(1)
					}
					time.Sleep(f.hold)
					inside.Add(-1)
					cancel()
				}
			})
		}
	}
	close(start)
	for range min(f.ours, 1) + min(f.theirs, 1) {
		select {
		case <-both:
		case <-time.After(10 * time.Second):
			err = errors.Join(err, fmt.Errorf("%v: one kind got nothing for 10s", f))
		}
	}
	if err == nil {
		counts.Store(time.Now().UnixNano())
		time.Sleep(d)
	}
	stop.Store(true)
	end()
	work.Wait()
	o.overlaps = overlaps.Load()
	return o, err
}

// open makes a locker. One of valkeylock asks again now and then: see retrying.
func (f mixedFleet) open(ours bool, address string) (take waitCall, closes func(), err error) {
	option := mix{majority: f.majority}.option(address)
	option.KeyValidity = 5 * time.Second
	if !ours {
		l, err := valkeylock.NewLocker(valkeylock.LockerOption(option))
		if err != nil {
			return nil, nil, err
		}
		return retrying(l), l.Close, nil
	}
	options := ctxlock.Options{LockerOption: option}
	if f.equals {
		options.Contention = ctxlock.Contention{NoQueue: true, LocalHandoffs: -1}
	}
	l, err := ctxlock.New(options)
	if err != nil {
		return nil, nil, err
	}
	return l.WithContext, l.Close, nil
}

// In a fleet of valkeylock alone, the idlest may get nothing: the one that has just had the lock is
// often the first to ask again. So of theirs, each has to get the lock at all, and all together a
// fifth of what would be equal; of ours, each a tenth of an equal share.
var _ = Describe("While both kinds want one name", func() {
	for _, f := range []mixedFleet{
		{ours: 4, theirs: 4, majority: 1},
		{ours: 4, theirs: 4, majority: 2, hold: time.Millisecond},
		{ours: 4, theirs: 4, majority: 2, hold: time.Millisecond, calls: 8},
	} {
		It("each gets its part: "+f.String(), func() {
			o, err := f.run(server().Addr(), unique(), 2500*time.Millisecond)
			Expect(err).NotTo(HaveOccurred())
			GinkgoWriter.Println(f, o)
			Expect(o.overlaps).To(BeZero())
			Expect(o.part(true).least).To(BeNumerically(">", o.equal()/10))
			Expect(o.part(false).sum).To(BeNumerically(">", float64(f.theirs)*o.equal()/5))
			Expect(o.part(false).least).To(BeNumerically(">", 0))
		})
	}

	It("those in the queue wait for little more than their turn behind holders of either kind", func() {
		f := mixedFleet{ours: 4, theirs: 4, majority: 1, hold: 20 * time.Millisecond}
		o, err := f.run(server().Addr(), unique(), 4*time.Second)
		Expect(err).NotTo(HaveOccurred())
		GinkgoWriter.Println(f, o)
		Expect(o.overlaps).To(BeZero())
		Expect(o.part(true).least).To(BeNumerically(">", o.equal()/4))
		Expect(o.part(true).longest).To(BeNumerically("<", 5*8*f.hold+400*time.Millisecond))
		Expect(o.part(false).sum).To(BeNumerically(">", float64(f.theirs)*o.equal()/5))
	})
})

func BenchmarkMixed(b *testing.B) {
	const each = 5 * time.Second
	fleets := []mixedFleet{
		{ours: 8}, {theirs: 8}, {ours: 4, theirs: 4}, {ours: 7, theirs: 1}, {ours: 1, theirs: 7},
		{ours: 4, theirs: 4, calls: 8}, {ours: 4, theirs: 4, equals: true},
	}
	for _, majority := range []int32{1, 2} {
		for _, hold := range []time.Duration{0, time.Millisecond, 20 * time.Millisecond} {
			for _, f := range fleets {
				f.majority, f.hold = majority, hold
				b.Run(strings.NewReplacer(" ", "_", ",", "").Replace(f.String()), func(b *testing.B) {
					s, err := lab.Start(lab.Config{})
					if err != nil {
						b.Fatal(err)
					}
					defer s.Stop()
					before := commandsOf(b, s)
					o, err := f.run(s.Addr(), "x", each)
					if err != nil {
						b.Fatal(err)
					}
					if o.overlaps > 0 {
						b.Errorf("%d overlaps", o.overlaps)
					}
					all := partOf(o.members).sum
					fmt.Printf("%v: %v\n    %.1f commands a holding\n", f, o, (commandsOf(b, s)-before)/float64(max(1, all)))
				})
			}
		}
	}
}

// commandsOf is how many commands a server has carried out, those of scripts included.
func commandsOf(b *testing.B, s *lab.Server) (n float64) {
	b.Helper()
	stats, err := s.Info("commandstats")
	if err != nil {
		b.Fatal(err)
	}
	for _, said := range stats {
		rest, _ := strings.CutPrefix(said, "calls=")
		calls, _, _ := strings.Cut(rest, ",")
		x, _ := strconv.ParseFloat(calls, 64)
		n += x
	}
	return n
}
