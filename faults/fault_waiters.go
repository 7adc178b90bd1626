package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ctxlock/ctxlock/faults/history"
	"github.com/ctxlock/ctxlock/internal/lab"
)

// Faults that strike those who wait, and what shows in who is served, and when. Most have a large
// fleet whose holders hold the lock for milliseconds, so that the queue turns fast.

// during has a blow befall everybody for so long.
func during(b *blow, d time.Duration) func(*run) error {
	return func(r *run) error {
		mend, err := r.strike(b, everyClient)
		if err != nil {
			return err
		}
		time.Sleep(d)
		mend()
		return nil
	}
}

// onOne has a blow befall one client, whether it holds the lock or waits, for so long.
func onOne(b *blow, d time.Duration) func(*run) error {
	return func(r *run) error { return r.suffer(b, r.roll(len(r.crew)), d, d+d/8) }
}

// onMostWaiters has a blow befall so many of the clients in line, all at once, while another works.
// It lasts for so long that one validity for each of them would be seen.
func onMostWaiters(b *blow, k int) func(*run) error {
	return func(r *run) error {
		holder, err := r.grip(validity / 2)
		if err != nil {
			return err
		}
		r.pause(validity/8, validity/4) // the others have come to stand in line
		var mends []func()
		for i := range r.crew {
			if i == holder || len(mends) == k {
				continue
			}
			mend, err := r.strike(b, i)
			if err != nil {
				return err
			}
			mends = append(mends, mend)
		}
		time.Sleep(time.Duration(k) * validity)
		for _, mend := range mends {
			mend()
		}
		return nil
	}
}

// stepping has the server's clock step while the queue turns, and step back later. Shares count from
// the first step.
func stepping(b *blow) func(*run) error {
	return func(r *run) error {
		r.pause(validity/4, validity/2)
		r.countShares()
		if err := r.suffer(b, everyClient, 5*validity/2, 3*validity); err != nil {
			return err
		}
		time.Sleep(5 * validity / 2)
		return nil
	}
}

// settled has a fleet go on for so long when it has found its pace.
func settled(d time.Duration) func(*run) error {
	return func(r *run) error {
		time.Sleep(validity / 2)
		r.countShares()
		return during(nothing, d)(r)
	}
}

// newcomers has clients join whose links stall while they connect, each at another command. When the
// links are healed and they have joined, they are as good as the others.
func newcomers(r *run) error {
	var all sync.WaitGroup
	joined := make([]*member, r.fault.Reserve)
	errs := make([]error, r.fault.Reserve)
	for i := range joined {
		client, at := len(r.crew)+i, int32(1+r.roll(mostCommands))
		all.Go(func() { joined[i], errs[i] = r.join(client, at) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	r.mu.Lock()
	r.crew = append(r.crew, joined...)
	r.mu.Unlock()
	for _, m := range joined {
		m.tell(order{What: start}, 0)
	}
	time.Sleep(validity / 4)
	r.countShares()
	time.Sleep(3 * validity)
	return nil
}

// mostCommands is about how many a Locker sends while it is made.
const mostCommands = 12

// joining is how long a link stalls by which a client joins: longer than clients wait for an answer
// about what the server can do.
const joining = 5 * validity / 4

// join has a client start by a link that stalls at some command, until it is healed.
func (r *run) join(client int, at int32) (*member, error) {
	link := r.site.links[client][0]
	var seen atomic.Int32
	link.OnCommand(func([]string) lab.Action {
		if seen.Add(1) == at {
			link.Stall(lab.Both)
		}
		return lab.Pass
	})
	s := &history.Strike{Name: "link stalled while it joins", Struck: monotonic(), Client: &client, Blocked: true}
	r.add(s)
	healed := make(chan struct{})
	go func() {
		defer close(healed)
		time.Sleep(joining)
		link.OnCommand(nil)
		link.Heal()
		r.mu.Lock()
		defer r.mu.Unlock()
		s.Mended = monotonic()
	}()
	m, err := enlistAnyway(r.contract(client), r.register)
	<-healed
	return m, err
}

// othersStopped stops all clients but one.
var othersStopped = &blow{name: "the others stopped", do: func(r *run, client int) (func(), error) {
	var strikes []*history.Strike
	for i, m := range r.crew {
		if i == client {
			continue
		}
		s := &history.Strike{Name: stopped.name, Struck: monotonic(), Client: &i, Blocked: true}
		m.freeze()
		r.add(s)
		strikes = append(strikes, s)
	}
	crew := slices.Clone(r.crew)
	return func() {
		for i, m := range crew {
			if i != client {
				m.thaw()
			}
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, s := range strikes {
			s.Mended = monotonic()
		}
	}, nil
}}

// cutNowAndThen is spaced so that a connection is new, or some seconds old, when it is cut.
var cutNowAndThen = repeated("connections cut now and then", true, linked,
	500*time.Millisecond, 2*time.Second, cutLinks)

func cutLinks(r *run, client int, _ *dice) error {
	for _, link := range r.site.linksOf(client) {
		link.Cut()
	}
	return nil
}

// steppedBy are steps that neither clients nor keys need to notice, and some that they must.
func steppedBy(d time.Duration) *blow { return timed(stepped(d)) }

// lagging is a link of 100 ms a round trip: requests are under way for long, and nothing is lost.
var lagging = delayed(50 * time.Millisecond)

func delayed(d time.Duration) *blow {
	return onLinks("link slowed", func(p *lab.Proxy) { p.Delay(d) }, func(p *lab.Proxy) { p.Delay(0) })
}

// bothKinds is a fleet that moves over. In a fleet of valkeylock alone, some get nothing for as long as
// others are at it, since its waiters miss releases: so they ask again here.
var bothKinds = slices.Concat(
	slices.Repeat([]string{oursLibrary}, 4), slices.Repeat([]string{askingLibrary}, 4))

// waitsOfBothKinds has each client of a mixed fleet wait at most five times as long, in 99 of 100
// cases, as in a fleet of its own kind. There a queue serves a client every len(fleet)-th time. Where
// clients race for the lock, the chance not to be served in m turns is (1-1/n)^m, so 99 of 100 wait
// for at most ln 100 times n turns.
func waitsOfBothKinds(h *history.History) (wrong []string) {
	n := len(h.Clients)
	turn := time.Duration(h.Ended-max(h.Began, h.Counted)) / time.Duration(max(1, sum(h.Counts())))
	for client, library := range h.Clients {
		own := time.Duration(n) * turn
		if library == askingLibrary {
			own = own * 46 / 10
		}
		waits := h.Waits(client)
		if len(waits) == 0 {
			continue // its share says so
		}
		if p99 := waits[len(waits)*99/100]; p99 > 5*own+busyMachine/2 {
			wrong = append(wrong,
				fmt.Sprintf("99 of 100 waits of client %d (%s) up to %s, and %s in a fleet of its own",
					client, library, short(p99), short(own)))
		}
	}
	return wrong
}

func sum(counts map[int]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

// differing are clients that disagree about how many keys make a majority.
var differing = []string{oursLibrary, oursTwiceLibrary, oursThriceLibrary, oursLibrary}

// differingBeside has an old kind of client agree with one, and not with the other.
var differingBeside = []string{valkeylockLibrary, oursTwiceLibrary, oursLibrary}

// saysMajority has all errors of calls name what differs.
func saysMajority(h *history.History) (wrong []string) {
	for _, r := range h.Rounds {
		if r.Held() || r.Error == "" || strings.Contains(strings.ToLower(r.Error), "majorit") ||
			strings.Contains(r.Error, "context canceled") {
			continue
		}
		if text := fmt.Sprintf("a client is told %q", r.Error); !slices.Contains(wrong, text) {
			wrong = append(wrong, text)
		}
	}
	return wrong
}

// nothingLost has no holder lose the lock.
func nothingLost(h *history.History) []string {
	lost := 0
	for _, r := range h.Rounds {
		if r.Lost {
			lost++
		}
	}
	if lost == 0 {
		return nil
	}
	return []string{count(lost, "held lock") + " lost"}
}

// distant is a link of 10 ms a round trip.
var distant = delayed(5 * time.Millisecond)
