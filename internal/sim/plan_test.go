package sim

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/ctxlock/ctxlock"
	"github.com/ctxlock/ctxlock/internal/faulty"
	"github.com/ctxlock/ctxlock/memlock"
)

// plan is what a history is like. All of it is drawn from the seed.
type plan struct {
	seed   uint64
	length time.Duration

	processes, workers, names int

	server memlock.ServerOption
	locker ctxlock.LockerOption
	faults faulty.Config

	// troubles is how long a process goes at most without one of those below; 0 means that it has none.
	troubles             time.Duration
	stalls, lanes, opens bool // links stop for a while, whole or one lane; lockers are closed and others opened
	crashes              int  // so many processes are cut off for ever

	// tidy histories have nothing that is carried out late, nobody who forgets to cancel, and keys that live long: none of them may
	// be left to time out.
	tidy bool
	// lawless histories have takeovers by force, and keys that vanish: two contexts may be alive at once, though not for long.
	lawless bool
	// fenced histories have a fencing token with each lock. In varied ones each lock is held on terms of its own, and some are taken
	// together.
	fenced, varied bool
	// mixed histories are of calls of every kind, whose contexts end at every moment.
	mixed bool
	// alone: nobody but one Locker takes its locks from their holders, so it must know by itself which
	// of its contexts is over, even by force.
	alone bool
	// contention is what the processes have in common; those that do without queues are drawn one by one.
	contention ctxlock.Contention
	queueless  float64
}

// drawPlan draws a plan.
func drawPlan(seed uint64) plan {
	r := rand.New(rand.NewPCG(seed, 1))
	p := plan{
		seed:      seed,
		processes: 1 + r.IntN(4),
		workers:   1 + r.IntN(4),
		names:     1 + r.IntN(3),
		server: memlock.ServerOption{
			Lanes:   1 + r.IntN(5),
			Echoes:  r.IntN(2) == 0,
			Latency: oneOf(r, 0, 0, time.Millisecond, 80*time.Millisecond),
		},
		locker: ctxlock.LockerOption{
			KeyPrefix:    "sim",
			KeyValidity:  oneOf(r, 400*time.Millisecond, 2*time.Second, 5*time.Second, 30*time.Second),
			KeyMajority:  oneOf[int32](r, 1, 1, 2, 2, 3),
			TryNextAfter: oneOf(r, 0, 0, 300*time.Millisecond),
		},
	}
	p.tidy = r.IntN(4) == 0
	p.lawless = !p.tidy && r.IntN(4) == 0
	if p.tidy {
		p.locker.KeyValidity = 20 * time.Second
	}
	p.length = between(r, 30*p.locker.KeyValidity, 100*p.locker.KeyValidity)
	p.locker.ExtendInterval = oneOf(r, 0, 0, p.locker.KeyValidity/4, p.locker.KeyValidity*9/10)
	p.faults = drawFaults(r, p.locker.KeyValidity)
	switch {
	case p.tidy:
		p.length /= 4
		p.faults.DelayRequest, p.faults.Double, p.faults.MaxDelay = 0, 0, 100*time.Millisecond
	case r.IntN(2) == 0:
		p.troubles = between(r, p.locker.KeyValidity, 20*p.locker.KeyValidity)
		p.stalls, p.lanes, p.opens = r.IntN(2) == 0, r.IntN(2) == 0, r.IntN(2) == 0
		p.crashes = r.IntN(p.processes)
	}
	r = rand.New(rand.NewPCG(seed, 6)) // so that the histories of old seeds are still what they were, but for this
	p.fenced, p.varied = r.IntN(2) == 0, r.IntN(3) == 0
	r = rand.New(rand.NewPCG(seed, 7))
	p.contention = ctxlock.Contention{LocalHandoffs: oneOf(r, -1, 0, 0, 1, 3), TryFromMemory: r.IntN(3) == 0}
	p.queueless = oneOf(r, 0, 0, 0, 0.3, 1)
	if r.IntN(2) == 0 { // more often where queues are for all locks
		p.server.Lanes = 1
	}
	return p
}

// drawFaults draws what goes wrong on the way to the server: a little of many kinds, or much of few.
func drawFaults(r *rand.Rand, validity time.Duration) faulty.Config {
	var c faulty.Config
	rates, share := []float64{0.01, 0.05, 0.2}, 0.5
	if r.IntN(2) == 0 {
		rates, share = []float64{0.05, 0.2, 0.5}, 0.15
	}
	for _, p := range []*float64{
		&c.Refuse, &c.LoseRequest, &c.CutRequest, &c.LoseReply, &c.CutReply, &c.DelayRequest, &c.DelayReply, &c.Double, &c.Split,
		&c.LoseEvent, &c.DelayEvent, &c.DoubleEvent, &c.ForgeEvent,
	} {
		if rate := oneOf(r, rates...); r.Float64() < share {
			*p = rate
		}
	}
	c.ForgeEvent /= 10 // with more, those who look because of a forgery cause more than one each
	if r.IntN(8) == 0 {
		c.LoseEvent = 1 // timers must do
	}
	c.MaxDelay = time.Duration(float64(validity) * oneOf(r, 0.1, 1, 1, 3))
	return c
}

// retries is how long the engine may go on cleaning up once all is well again: as long as it waits for an answer that will
// not come, and pauses after that.
const retries = 10 * time.Second

// patience is how long a single request is waited for at the most.
func (p plan) patience() time.Duration {
	if p.locker.TryNextAfter > 0 {
		return p.locker.TryNextAfter
	}
	return min(p.locker.KeyValidity, max(1500*time.Millisecond, 4*(p.server.Latency+2*p.faults.MaxDelay)))
}

// longest is how long a key lives at the most that nobody extends.
func (p plan) longest() time.Duration {
	if p.varied {
		return 2 * p.locker.KeyValidity
	}
	return p.locker.KeyValidity
}

// deaf is how many events are missing even when all is well again: all or none.
func (p plan) deaf() float64 { return math.Floor(p.faults.LoseEvent) }

// turn is how long anybody may have to wait for a lock once all is well again: keys that nobody extends must run out, requests
// that are late may still plant some, and all the others may come first. Without events each may take up to a validity to notice.
func (p plan) turn() time.Duration {
	others := time.Duration(p.processes * p.workers * p.names)
	each := time.Second + 10*p.server.Latency + time.Duration(p.deaf())*p.longest()
	return 4*p.longest() + 4*p.faults.MaxDelay + others*each + 30*time.Second
}

// load is how many keys a process may ask for within a second, for each of its workers and for itself. What an attempt may have left is
// looked for as long as it can live.
func (p plan) load() int {
	return int(400 * time.Duration(1+p.workers) * time.Duration(2*p.locker.KeyMajority-1) * p.longest() / p.locker.KeyValidity)
}

func (p plan) String() string {
	return fmt.Sprintf("%v, %d processes of %d workers, %d names, lanes %d, echoes %v, latency %v, majority %d, validity %v, "+
		"extended every %v, patience %v, troubles every %v (stalls %v, of lanes %v, reopened %v, crashes %d), tidy %v, lawless %v, fenced %v, varied %v, contention %+v, without queue %v, faults %+v",
		p.length.Round(time.Second), p.processes, p.workers, p.names, p.server.Lanes, p.server.Echoes, p.server.Latency,
		p.locker.KeyMajority, p.locker.KeyValidity, p.locker.ExtendInterval, p.locker.TryNextAfter, p.troubles.Round(time.Millisecond),
		p.stalls, p.lanes, p.opens, p.crashes, p.tidy, p.lawless, p.fenced, p.varied, p.contention, p.queueless, p.faults)
}

func oneOf[T any](r *rand.Rand, values ...T) T { return values[r.IntN(len(values))] }

func between(r *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(r.Int64N(int64(high-low)))
}
