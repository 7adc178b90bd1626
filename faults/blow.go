package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/valkey-io/valkey-go"

	"github.com/ctxlock/ctxlock/faults/history"
	"github.com/ctxlock/ctxlock/internal/lab"
)

// blow is one thing that goes wrong, for as long as it is not mended.
type blow struct {
	name string
	// one tells that it befalls one client, and not all, or the servers.
	one bool
	// timed tells that it has to do with the server's clock. Two such do not go together: a pause that began while the clock was ahead by an
	// hour lasts for an hour more.
	timed bool
	// blocks tells that those whom it befalls cannot be served until it is mended.
	blocks bool
	// sites that it can befall; empty: all.
	sites []Kind
	// do makes it fall on a client, if it befalls one. undo may be nil.
	do func(r *run, client int) (undo func(), err error)
}

var (
	redisSites = []Kind{Single, Nodes, Sentinel, Cluster}
	linked     = []Kind{Single, Nodes, Etcd}
)

// onLinks makes a blow of what befalls the links of one client.
func onLinks(name string, do, undo func(*lab.Proxy)) *blow {
	return &blow{name: name, one: true, sites: linked, do: func(r *run, client int) (func(), error) {
		each := func(f func(*lab.Proxy)) {
			for _, link := range r.site.linksOf(client) {
				f(link)
			}
		}
		each(do)
		return func() { each(undo) }, nil
	}}
}

// linksOf are the links of a client, or of all.
func (s *site) linksOf(client int) (links []*lab.Proxy) {
	for i, each := range s.links {
		if client == everyClient || i == client {
			links = append(links, each...)
		}
	}
	return links
}

func stalled(name string, d lab.Direction) *blow {
	return onLinks(name, func(p *lab.Proxy) { p.Stall(d) }, (*lab.Proxy).Heal)
}

var (
	stall     = blocking(stalled("link stalled", lab.Both))
	stallUp   = blocking(stalled("requests stalled", lab.Up))
	stallDown = blocking(stalled("replies stalled", lab.Down))
	cutOff    = blocking(onLinks("link cut", func(p *lab.Proxy) { p.Refuse(true); p.Cut() }, func(p *lab.Proxy) { p.Refuse(false) }))
	slowed    = onLinks("link slowed", func(p *lab.Proxy) { p.Delay(150 * time.Millisecond) }, func(p *lab.Proxy) { p.Delay(0) })
	cuts      = repeated("connections cut", true, linked, 50*time.Millisecond, 400*time.Millisecond, cutLinks)
)

// lostReplies has a fifth of all commands carried out, or not, and not answered.
var lostReplies = &blow{name: "replies lost", one: true, sites: []Kind{Single, Nodes}, do: func(r *run, client int) (func(), error) {
	for _, link := range r.site.linksOf(client) {
		own := r.fork()
		link.OnCommand(func([]string) lab.Action {
			switch own.roll(20) {
			case 0, 1, 2:
				return lab.CutAfter
			case 3:
				return lab.CutBefore
			}
			return lab.Pass
		})
	}
	return func() {
		for _, link := range r.site.linksOf(client) {
			link.OnCommand(nil)
		}
	}, nil
}}

// repeated makes a blow of something that happens again and again.
func repeated(name string, one bool, sites []Kind, from, to time.Duration, do func(r *run, client int, own *dice) error) *blow {
	return &blow{name: name, one: one, sites: sites, do: func(r *run, client int) (func(), error) {
		stop, own := make(chan struct{}), r.fork()
		var loop sync.WaitGroup
		loop.Go(func() {
			for {
				_ = do(r, client, own) // a server that does not answer has its own worries
				select {
				case <-stop:
					return
				case <-time.After(own.draw(from, to)):
				}
			}
		})
		return func() {
			close(stop)
			loop.Wait()
		}, nil
	}}
}

// onMachines makes a blow of what befalls the first server, or the one of a standalone site.
func onMachines(name string, do func(machine) error, undo func(machine) error) *blow {
	return &blow{name: name, sites: linked, do: func(r *run, _ int) (func(), error) {
		m := r.site.machines[0]
		r.site.silent.Add(1)
		return func() {
			_ = undo(m)
			r.site.silent.Add(-1)
		}, do(m)
	}}
}

func quietly(f func(machine)) func(machine) error {
	return func(m machine) error { f(m); return nil }
}

var (
	frozen = blocking(onMachines("server frozen", quietly(machine.Freeze), quietly(machine.Thaw)))
	killed = blocking(onMachines("server killed", quietly(machine.Kill), machine.Restart))
)

// onServers makes a blow of commands to all servers that hold data; those that undo it may be none.
func onServers(name string, do []string, undo ...string) *blow {
	return &blow{name: name, sites: redisSites, do: func(r *run, _ int) (func(), error) {
		if err := r.site.command(do...); err != nil || undo == nil {
			return nil, err
		}
		return func() { r.site.insist(undo...) }, nil
	}}
}

// insist tells all servers something until they answer.
func (s *site) insist(args ...string) {
	for deadline := time.Now().Add(patience); s.command(args...) != nil && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
}

var errSilent = errors.New("a server does not answer")

// command tells all servers something.
func (s *site) command(args ...string) (err error) {
	if s.silent.Load() > 0 {
		return errSilent
	}
	for _, server := range s.servers {
		if _, e := server.Do(args...); e != nil {
			err = e
		}
	}
	return err
}

var (
	flushed        = onServers("FLUSHALL", []string{"FLUSHALL"})
	paused         = blocking(timed(onServers("CLIENT PAUSE", []string{"CLIENT", "PAUSE", fmt.Sprint(pauseTime.Milliseconds()), "ALL"}, "PING"))) // which is answered when it is over
	scriptsFlushed = repeated("SCRIPT FLUSH", false, redisSites, 10*time.Millisecond, 100*time.Millisecond, func(r *run, _ int, _ *dice) error {
		return r.site.command("SCRIPT", "FLUSH")
	})
	clientsKilled = repeated("CLIENT KILL", false, redisSites, 50*time.Millisecond, 400*time.Millisecond, func(r *run, _ int, own *dice) error {
		return r.site.command("CLIENT", "KILL", "TYPE", [...]string{"normal", "pubsub"}[own.roll(2)], "SKIPME", "yes")
	})
)

// tableOverflow has room for one key in the server's tracking table, and somebody who has others watched all the time, so that the clients' keys are
// thrown out of it.
var tableOverflow = &blow{name: "tracking table of one key", sites: redisSites, do: func(r *run, _ int) (func(), error) {
	if err := r.site.command("CONFIG", "SET", "tracking-table-max-keys", "1"); err != nil {
		return nil, err
	}
	stop := watchOthers(r.site.servers)
	return func() {
		stop()
		r.site.insist("CONFIG", "SET", "tracking-table-max-keys", "1000000")
	}, nil
}}

// watchOthers has each server track keys of somebody else, one after the other.
func watchOthers(servers []*lab.Server) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for _, server := range servers {
		all.Go(func() {
			c, err := valkey.NewClient(valkey.ClientOption{InitAddress: []string{server.Addr()}, ForceSingleClient: true})
			if err != nil {
				return // it does not answer: there is no table to fill
			}
			defer c.Close()
			for i := 0; ctx.Err() == nil; i++ {
				short, done := context.WithTimeout(ctx, time.Second)
				c.DoCache(short, c.B().Get().Key(fmt.Sprint("others:", i%1000)).Cache(), time.Second)
				done()
				time.Sleep(time.Millisecond)
			}
		})
	}
	return func() {
		cancel()
		all.Wait()
	}
}

func blocking(b *blow) *blow {
	b.blocks = true
	return b
}

func timed(b *blow) *blow {
	b.timed = true
	return b
}

// pauseTime is how long CLIENT PAUSE lasts. It can't be ended by a command: that would be paused, too.
const pauseTime = validity * 7 / 4

// overfull sends everybody who has subscribed to a channel more than its output buffer may hold, so that the server cuts it off.
var overfull = &blow{name: "output buffers overfull", sites: []Kind{Single}, do: func(r *run, client int) (func(), error) {
	if err := r.site.command("CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 1mb 1 normal 1mb 1mb 1"); err != nil {
		return nil, err
	}
	undo, err := flood.do(r, client)
	return func() {
		undo()
		r.site.insist("CONFIG", "SET", "client-output-buffer-limit", "pubsub 32mb 8mb 60 normal 0 0 0")
	}, err
}}

var flood = repeated("flood", false, []Kind{Single}, 50*time.Millisecond, 400*time.Millisecond, func(r *run, _ int, _ *dice) error {
	message := strings.Repeat("x", 2<<20)
	for _, server := range r.site.servers {
		reply, err := server.Do("PUBSUB", "CHANNELS", "*")
		if err != nil {
			return err
		}
		channels, _ := reply.([]any)
		for _, channel := range channels {
			if _, err := server.Do("PUBLISH", channel.(string), message); err != nil {
				return err
			}
		}
	}
	return nil
})

// evicting fills the server until it throws keys out.
var evicting = &blow{name: "eviction", sites: []Kind{Single}, do: func(r *run, _ int) (func(), error) {
	const fill = `for i = 1, 20000 do redis.call("SET", "other:" .. ARGV[1] .. ":" .. i, string.rep("x", 100)) end`
	for _, setting := range [][]string{{"maxmemory-policy", "allkeys-random"}, {"maxmemory", "3mb"}} {
		if _, err := r.site.servers[0].Do("CONFIG", "SET", setting[0], setting[1]); err != nil {
			return nil, err
		}
	}
	var err error
	for i := 0; i < 10 && err == nil; i++ {
		_, err = r.site.servers[0].Do("EVAL", fill, "0", strconv.Itoa(i))
	}
	if err != nil && strings.HasPrefix(err.Error(), "OOM") {
		err = nil // it is as full as can be
	}
	return func() { _, _ = r.site.servers[0].Do("CONFIG", "SET", "maxmemory", "0") }, err
}}

// foreignKeys are others' keys, which have the server busy when its own run out.
var foreignKeys = &blow{name: "100,000 foreign keys", sites: []Kind{Single}, do: func(r *run, _ int) (func(), error) {
	const fill = `for i = 1, 10000 do redis.call("SET", "other:" .. ARGV[1] .. ":" .. i, "x", "PX", 3600000 + i) end`
	for i := range 10 {
		if _, err := r.site.servers[0].Do("EVAL", fill, "0", strconv.Itoa(i)); err != nil {
			return nil, err
		}
	}
	return nil, nil
}}

// stepped is a wall clock that jumps, and jumps back: of the only server, or of one of three.
func stepped(d time.Duration) *blow {
	return &blow{name: "clock steps by " + d.String(), sites: []Kind{Single, Nodes}, do: func(r *run, _ int) (func(), error) {
		server := r.site.servers[0]
		server.SetClock(d)
		return func() {
			struck := monotonic()
			server.SetClock(0)
			r.add(&history.Strike{Name: "clock steps back", Struck: struck, Mended: monotonic()})
		}, nil
	}}
}

var (
	clockAhead  = timed(stepped(time.Hour))
	clockBehind = timed(stepped(-time.Hour))
	clockNear   = timed(stepped(validity * 9 / 10))
)

// What befalls a client itself.
var (
	stopped = &blow{name: "process stopped", one: true, blocks: true, do: func(r *run, client int) (func(), error) {
		r.crew[client].freeze()
		return r.crew[client].thaw, nil
	}}
	crashed = &blow{name: "process killed", one: true, do: func(r *run, client int) (func(), error) {
		r.crew[client].kill()
		return nil, nil
	}}
	stoppedLate = &blow{name: "process stopped before writing", one: true, blocks: true, do: func(r *run, client int) (func(), error) {
		m := r.crew[client]
		struck := r.register.stopAt(client, m.freeze)
		return func() {
			if r.register.stopAt(client, nil); struck.Load() {
				m.thaw()
			}
		}, nil
	}}
	cancelled = &blow{name: "callers' contexts cancelled", one: true, do: func(r *run, client int) (func(), error) {
		r.crew[client].tell(order{What: cancel}, 0)
		return nil, nil
	}}
	starved = &blow{name: "CPU starved", do: func(*run, int) (func(), error) { return burn() }}
)
