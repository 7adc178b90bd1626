package ctxlock

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ctxlock/ctxlock/store"
)

// restartGuard keeps a node that has lost its data from being counted on until whoever held a lock on it before has stopped to believe
// in that (Redlock's delayed restart). A restart breaks every connection, and that it was emptied a server tells those who track keys,
// in the way in which a broken connection is told of. So it is enough to ask after each of these: the server is told from the one before by its
// run ID, on first contact its uptime says how long ago it started, and it counts how often it was emptied.
type restartGuard struct {
	validity time.Duration

	// turn is of one: whoever has it may touch what follows, and may block meanwhile.
	turn    chan struct{}
	asked   bool          // the rest is known
	losses  int64         // connections that had been lost when the server was asked last
	runID   string        // which run of the server answered
	flushes string        // what it said of how often it was emptied
	history string        // which history of replication its data belongs to
	dials   int64         // attempts to connect up to then
	words   int64         // words of the client up to then
	coming  int64         // and those that were still to come, of connections that had broken
	asking  time.Duration // when it was asked
	until   time.Duration // no claims before that, by the store's clock
}

func newRestartGuard(validity time.Duration) *restartGuard {
	return &restartGuard{validity: validity, turn: make(chan struct{}, 1)}
}

var errNoInfo = errors.New("the server does not say since when it runs: DelayedRestart needs INFO")

// claim is the store's, unless the node is not to be counted on.
func (g *restartGuard) claim(ctx context.Context, s *valkeyStore, ops []store.Op) {
	if err := g.check(ctx, s); err != nil {
		failAll(ops, err)
		return
	}
	before := s.lanes[0].losses.Load()
	s.Claim(ctx, ops)
	if s.lanes[0].losses.Load() == before {
		return
	}
	// It may be another run that answered than the one that was checked.
	if err := g.check(ctx, s); err != nil {
		for i := range ops {
			if ops[i].Err == nil && (ops[i].Mine() || ops[i].Holder == "") {
				ops[i].Err, ops[i].Unknown = err, true
			}
		}
	}
}

// check gives an error while the node is not to be counted on. It asks the server if the connection was lost since it did last.
func (g *restartGuard) check(ctx context.Context, s *valkeyStore) error {
	select {
	case g.turn <- struct{}{}:
		defer func() { <-g.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	losses := s.lanes[0].losses.Load()
	if !g.asked || g.losses != losses {
		if err := g.ask(ctx, s); err != nil {
			return err
		}
	}
	g.losses = losses
	if left := g.until - s.now(); left > 0 {
		return fmt.Errorf("the node has lost its data: not counted on for another %v", left.Round(time.Millisecond))
	}
	return nil
}

// longest is how long anybody may believe in a lock that was on the node, as far as this process can know.
func (g *restartGuard) longest(s *valkeyStore) time.Duration {
	s.clock.mu.Lock()
	defer s.clock.mu.Unlock()
	return max(g.validity, s.clock.covered-s.now())
}

// ask finds out which run of the server this is, and whether it was emptied. It takes the turn.
func (g *restartGuard) ask(ctx context.Context, s *valkeyStore) error {
	batch := newBatch()
	b := s.client.B()
	batch.add(b.Info().Section("server").Build(), b.Info().Section("commandstats").Build(), b.Info().Section("replication").Build())
	answers := answers{ctx: ctx, results: s.lanes[0].do(ctx, "", batch), command: "INFO"}
	var said store.Op
	server, err := answers.value(&said)
	if err != nil {
		return said.Err
	}
	commands, err := answers.value(&said)
	if err != nil {
		return said.Err
	}
	replication, err := answers.value(&said)
	if err != nil {
		return said.Err
	}
	fields := infoFields(server)
	runID := fields["run_id"]
	seconds, err := strconv.ParseInt(fields["uptime_in_seconds"], 10, 64)
	if err != nil || runID == "" || seconds < 0 {
		return store.Permanent(errNoInfo)
	}
	fields = infoFields(commands)
	flushes := calls(fields["cmdstat_flushall"]) + "+" + calls(fields["cmdstat_flushdb"])
	history := infoFields(replication)["master_replid"]
	dials, words := s.tracker.dials.Load(), s.tracker.words.Load()
	longest := g.longest(s)
	// It is the difference of two times in whole seconds.
	up := time.Duration(min(max(seconds-1, 0), mostSeconds)) * time.Second
	switch {
	case g.asked && (g.runID != runID || g.flushes != flushes || g.history != history || g.emptied(dials, words, s.now())):
		g.until = s.now() + longest
	case !g.asked && up < longest:
		g.until = s.now() + longest - up
	}
	g.asked, g.runID, g.flushes, g.history = true, runID, flushes, history
	g.dials, g.words, g.coming, g.asking = dials, words, max(s.tracker.breaks.Load()-words, 0), s.now()
	return nil
}

// emptied tells whether what looked like the end of a connection was the server's word that it is empty: there was no attempt to connect
// since. The client's word of a connection's end may come after the next one has been used, but not long after.
func (g *restartGuard) emptied(dials, words int64, now time.Duration) bool {
	coming := g.coming
	if now-g.asking > time.Second {
		coming = 0
	}
	return dials == g.dials && words-g.words > coming
}

// infoFields takes an answer to INFO apart.
func infoFields(text string) map[string]string {
	fields := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[name] = value
		}
	}
	return fields
}

// calls is how often a command was called, of what INFO says about it: "calls=2,usec=...".
func calls(stat string) string {
	calls, _, _ := strings.Cut(stat, ",")
	return calls
}
