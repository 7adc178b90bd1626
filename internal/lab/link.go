package lab

import (
	"net"
	"strings"
	"sync"
	"time"
)

// link is one connection through a proxy: two lanes of bytes, up and down. Each lane has a reader, which looks at the bytes,
// and a writer, which waits for their time.
type link struct {
	p      *Proxy
	client *net.TCPConn

	up, down *lane

	mu     sync.Mutex
	server *net.TCPConn  // nil until dialled
	over   chan struct{} // closed by cut: both connections are closed or about to be

	asked    int // replies that the commands so far will bring
	answered int // replies that have begun to arrive
	resp3    bool
	fates    []fate // of replies to come, in order; noted before the command is sent, so before the reply can arrive
}

// fate is what shall become of a reply.
type fate struct {
	reply int // its number; 0: the next push, which is what confirms a subscription in RESP3
	chunk chunk
}

func newLink(p *Proxy, client *net.TCPConn) *link {
	return &link{p: p, client: client, up: newLane(), down: newLane(), over: make(chan struct{})}
}

// run ends when the link does, and so do the goroutines it starts.
func (l *link) run() {
	defer l.p.forget(l)
	defer l.cut() // after an orderly end the connections are still open
	conn, err := net.DialTimeout("tcp", l.p.target, 5*time.Second)
	if err != nil {
		return
	}
	server := conn.(*net.TCPConn)
	if !l.connected(server) {
		reset(server)
		return
	}
	var wg sync.WaitGroup
	wg.Go(l.readUp)
	wg.Go(l.readDown)
	wg.Go(func() { l.write(l.up, Up, server) })
	wg.Go(func() { l.write(l.down, Down, l.client) })
	wg.Wait()
}

func (l *link) connected(server *net.TCPConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.over:
		return false
	default:
		l.server = server
		return true
	}
}

// cut ends the link at once.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.over:
		return
	default:
	}
	close(l.over)
	reset(l.client)
	if l.server != nil {
		reset(l.server)
	}
}

// readUp looks at the commands of the client. It ends with the client's bytes, or with a command after which no more shall be
// sent.
func (l *link) readUp() {
	var (
		rest  []byte // the beginning of a command
		plain = true // RESP so far
		buf   = make([]byte, 64<<10)
	)
	for {
		n, err := l.client.Read(buf)
		if n > 0 {
			due := l.p.due()
			if !plain {
				l.up.put(chunk{data: clone(buf[:n]), due: due}, l.over)
			} else {
				rest = append(rest, buf[:n]...)
				var more bool
				if rest, plain, more = l.commands(rest, due); !more {
					return
				}
			}
		}
		if err != nil { // a reset is as much an end as any: it waits its turn behind the bytes
			l.up.put(chunk{data: rest, due: l.p.due()}, l.over)
			l.up.put(chunk{do: finish, due: l.p.due()}, l.over)
			return
		}
	}
}

// commands sends the whole commands in b on and returns the rest. plain is false when b is not RESP: then all of it was sent.
// more is false when nothing shall follow.
func (l *link) commands(b []byte, due time.Time) (rest []byte, plain, more bool) {
	hooked := l.p.hooked()
	start, at := 0, 0 // of what was not sent yet; of the next command
	send := func() {
		if at > start {
			l.up.put(chunk{data: clone(b[start:at]), due: due}, l.over)
			start = at
		}
	}
	for {
		args, n, err := parseCommand(b[at:])
		if err != nil {
			at = len(b)
			send()
			return nil, false, true
		}
		if n == 0 {
			send()
			return clone(b[at:]), true, true
		}
		action, heals := Pass, 0
		if hooked {
			action, heals = l.p.decide(args)
		}
		if action == CutBefore {
			send()
			l.up.put(chunk{do: cut, due: due}, l.over)
			return nil, true, false
		}
		l.expect(args, action, heals)
		if other := l.p.forged(args); other != nil {
			send()
			l.up.put(chunk{data: other, due: due}, l.over)
			start = at + n
		}
		at += n
		if action == CutAfter {
			send()
			return nil, true, false
		}
	}
}

// expect counts the reply that a command will bring, and notes what shall become of it.
func (l *link) expect(args []string, action Action, heals int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	name := strings.ToUpper(args[0])
	if name == "HELLO" && len(args) > 1 {
		l.resp3 = args[1] == "3"
	}
	f := fate{}
	if !l.resp3 || !strings.HasSuffix(name, "SUBSCRIBE") {
		l.asked++
		f.reply = l.asked
	}
	switch action {
	case CutAfter:
		f.chunk.do = cut
	case StallAfter:
		f.chunk.do, f.chunk.heals = stall, heals
	default:
		return
	}
	l.fates = append(l.fates, f)
}

// readDown looks at the replies of the server, as far as is needed to find where the one that has a fate begins and ends.
func (l *link) readDown() {
	var (
		replies scanner
		buf     = make([]byte, 64<<10)
		dropped bool // the reply being read shall not be delivered
	)
	for {
		n, err := l.server.Read(buf)
		due := l.p.due()
		for b := buf[:n]; len(b) > 0; {
			fresh := replies.fresh()
			size, whole := replies.next(b)
			if fresh {
				if c, ok := l.arrives(replies.push); ok {
					c.due = due
					if dropped = c.do == cut; !dropped {
						l.down.put(c, l.over)
					}
				}
			}
			if !dropped {
				// One chunk for each value: the lane puts together what it can.
				l.down.put(chunk{data: clone(b[:size]), due: due}, l.over)
			} else if whole {
				l.down.put(chunk{do: cut, due: due}, l.over)
				return
			}
			b = b[size:]
		}
		if err != nil {
			l.down.put(chunk{do: l.lastWord(), due: due}, l.over)
			return
		}
	}
}

// lastWord is what becomes of the link when the server has ended it. If a cut is due, nobody reads from the client any more, so it is that.
func (l *link) lastWord() instruction {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.fates {
		if f.chunk.do == cut {
			return cut
		}
	}
	return finish
}

// arrives counts a reply that begins, unless it is a push, and returns its fate if it has one.
func (l *link) arrives(push bool) (chunk, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	number := 0
	if !push {
		l.answered++
		number = l.answered
	}
	if len(l.fates) == 0 || l.fates[0].reply != number {
		return chunk{}, false
	}
	c := l.fates[0].chunk
	l.fates = l.fates[1:]
	return c, true
}

// write sends a lane's bytes on, each when its time has come and nothing stalls. It ends with the lane or with the link.
func (l *link) write(from *lane, d Direction, to *net.TCPConn) {
	for {
		c, ok := from.take(l.over)
		if !ok || !l.until(c.due) || !l.flowing(d) {
			return
		}
		switch c.do {
		case finish:
			_ = to.CloseWrite()
			return
		case cut:
			l.cut()
			return
		case stall:
			if !l.healed(c.heals) {
				return
			}
		}
		for len(c.data) > 0 {
			n, err := l.writeSome(d, to, c.data)
			if err != nil {
				l.cut()
				return
			}
			if c.data = c.data[n:]; len(c.data) > 0 && !l.flowing(d) {
				return
			}
		}
	}
}

// writeSome writes what goes within writeSlice, unless d is stalled: then nothing.
func (l *link) writeSome(d Direction, to *net.TCPConn, b []byte) (int, error) {
	l.p.mu.RLock()
	defer l.p.mu.RUnlock()
	if l.p.stalled&d != 0 {
		return 0, nil
	}
	_ = to.SetWriteDeadline(time.Now().Add(writeSlice))
	n, err := to.Write(b)
	if e, ok := err.(net.Error); ok && e.Timeout() {
		err = nil
	}
	return n, err
}

// until waits for a time; false: the link is over.
func (l *link) until(due time.Time) bool {
	wait := time.Until(due)
	if wait <= 0 {
		return true
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.over:
		return false
	}
}

// flowing waits while d is stalled; false: the link is over.
func (l *link) flowing(d Direction) bool {
	return l.await(func() bool { return l.p.stalled&d == 0 })
}

// healed waits until Heal has been called more than n times; false: the link is over.
func (l *link) healed(n int) bool {
	return l.await(func() bool { return l.p.heals > n })
}

// await waits until a condition on what p.mu guards holds; false: the link is over.
func (l *link) await(holds func() bool) bool {
	for {
		l.p.mu.RLock()
		ok, changed := holds(), l.p.changed
		l.p.mu.RUnlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-l.over:
			return false
		}
	}
}

func clone(b []byte) []byte { return append([]byte(nil), b...) }
