package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/ctxlock/ctxlock/faults/history"
)

// Children are this program again. The first argument says what as.
const (
	childClient = "child:client"
	childEtcd   = "child:etcd"
	childBurn   = "child:burn"
)

// runChild is main in a child; false: this is none.
func runChild() bool {
	if len(os.Args) < 2 {
		return false
	}
	var err error
	switch os.Args[1] {
	case childClient:
		err = clientMain()
	case childEtcd:
		err = etcdMain(os.Args[2:])
	case childBurn:
		burnMain()
	default:
		return false
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

// member is a client as the lab sees it. Its methods are safe for concurrent use.
type member struct {
	contract
	register *register
	cmd      *exec.Cmd
	stdin    io.Closer
	orders   *json.Encoder // under mu
	gone     chan struct{} // closed when nothing more can come from it

	ready, left chan note
	feels       chan note
	holds       chan note // of those that hold many; it has room for all

	stopMu sync.Mutex // held while the process is stopped or let go on
	stops  int        // of faults that want it stopped

	mu     sync.Mutex
	rounds []history.Round
	began  map[int]history.Round // of workers that have asked and not yet reported the round
	blamed []string
	killed int64 // when; 0: it was not
}

// timeouts of the lab's own dealings. Machines may be busy.
const (
	connecting = 20 * time.Second
	leaving    = 8 * time.Second
)

// enlist starts a client and waits until it has connected.
func enlist(c contract, g *register) (*member, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	m := &member{
		contract: c, register: g, cmd: exec.Command(self, childClient), gone: make(chan struct{}),
		ready: make(chan note, 1), left: make(chan note, 1), feels: make(chan note, 1), holds: make(chan note, 4*crowd), began: make(map[int]history.Round),
	}
	m.cmd.Stderr = os.Stderr
	m.cmd.SysProcAttr = attributes()
	stdin, err := m.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := m.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := m.cmd.Start(); err != nil {
		return nil, err
	}
	m.stdin, m.orders = stdin, json.NewEncoder(stdin)
	go m.listen(json.NewDecoder(bufio.NewReaderSize(stdout, 1<<16)))
	if err := m.orders.Encode(c); err != nil {
		m.kill()
		return nil, err
	}
	select {
	case n := <-m.ready:
		if n.What == ready {
			return m, nil
		}
		err = errors.New(n.Error)
	case <-m.gone:
		err = errors.New("it ended")
	case <-time.After(connecting):
		err = errors.New("it does not connect")
	}
	m.kill()
	return nil, fmt.Errorf("client %d of %s: %w", c.Client, c.Library, err)
}

// listen ends with the client.
func (m *member) listen(notes *json.Decoder) {
	defer close(m.gone)
	for {
		var n note
		if notes.Decode(&n) != nil {
			return
		}
		switch n.What {
		case ready:
			m.ready <- n
		case failed:
			select {
			case m.ready <- n:
			default:
				m.holds <- n
			}
		case held, over:
			m.holds <- n
		case asks:
			m.begin(n.Worker, func(r *history.Round) { *r = history.Round{Client: m.Client, Worker: n.Worker, Asked: n.At} })
		case blames:
			m.mu.Lock()
			m.blamed = append(m.blamed, n.Error)
			m.mu.Unlock()
		case reads:
			m.begin(n.Worker, func(r *history.Round) { r.Token, r.Got = n.Token, monotonic() })
			m.tell(m.register.read(m.Client, n.Token), n.Worker)
		case acts:
			m.register.act(m.Client)
			m.tell(order{What: answer}, n.Worker)
		case writes:
			m.tell(m.written(n), n.Worker)
		case rounds:
			m.mu.Lock()
			m.rounds = append(m.rounds, *n.Round)
			delete(m.began, n.Worker)
			m.mu.Unlock()
		case feels:
			select {
			case m.feels <- n:
			default: // nobody waits for it any more
			}
		case closed:
			m.left <- n
		}
	}
}

// written carries a write out. Should the client not live to report its round, the write is in the history all the same: others build on it.
func (m *member) written(n note) order {
	o := m.register.write(n.Write, n.Token)
	w := o.Write
	m.begin(n.Worker, func(r *history.Round) { r.Alive, r.Write = w.Checked, &w })
	return o
}

// begin notes what is known of a round that is not over.
func (m *member) begin(worker int, known func(*history.Round)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.began[worker]
	known(&r)
	m.began[worker] = r
}

// complained is what it said of calls that did wrong.
func (m *member) complained() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.blamed)
}

// tell gives an order. One that has gone does not hear it.
func (m *member) tell(o order, worker int) {
	o.Worker = worker
	m.mu.Lock()
	defer m.mu.Unlock()
	_ = m.orders.Encode(o)
}

// history is what the client has done so far.
func (m *member) history() []history.Round {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := append([]history.Round(nil), m.rounds...)
	for _, r := range m.began {
		if m.killed != 0 {
			if !r.Held() {
				continue // it waited, and does no more
			}
			r.Over = m.killed
		}
		all = append(all, r)
	}
	return all
}

// holdings is how often the client has had the lock, of the rounds that are remembered.
func (m *member) holdings() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.rounds {
		if r.Held() {
			n++
		}
	}
	return n
}

// forgetRounds begins a new history.
func (m *member) forgetRounds() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rounds, m.blamed = nil, nil
	clear(m.began)
}

// health asks the client how it is; false: it does not answer.
func (m *member) health() (health, bool) {
	select {
	case <-m.feels: // the answer to a question that was given up
	default:
	}
	m.tell(order{What: check}, 0)
	select {
	case n := <-m.feels:
		return n.Health, true
	case <-m.gone:
	case <-time.After(leaving):
	}
	return health{}, false
}

// leave has the client close its locker. What it says is in the note; false: it says nothing.
func (m *member) leave() (note, bool) {
	m.tell(order{What: leave}, 0)
	select {
	case n := <-m.left:
		return n, true
	case <-m.gone:
	case <-time.After(2 * leaving):
	}
	return note{}, false
}

// freeze stops the process. When it returns, it stands still. Faults that overlap stop it together.
func (m *member) freeze() {
	m.stopMu.Lock()
	defer m.stopMu.Unlock()
	if m.stops++; m.stops != 1 { // 0: it was to go on before it was to stop
		return
	}
	_ = m.cmd.Process.Signal(syscall.SIGSTOP)
	_, _ = syscall.Wait4(m.cmd.Process.Pid, nil, syscall.WUNTRACED, nil) // tells when all threads have come to it, or that it has ended
}

// thaw lets it go on, when all have called it that stopped it.
func (m *member) thaw() {
	m.stopMu.Lock()
	defer m.stopMu.Unlock()
	if m.stops--; m.stops == 0 {
		_ = m.cmd.Process.Signal(syscall.SIGCONT)
	}
}

// kill ends the process, as a crash would.
func (m *member) kill() {
	m.mu.Lock()
	again := m.killed != 0
	if !again {
		m.killed = monotonic()
	}
	m.mu.Unlock()
	if again {
		return
	}
	_ = m.cmd.Process.Kill()
	_ = m.stdin.Close()
	<-m.gone
	_ = m.cmd.Wait() // how it ended interests nobody
}

// alive tells whether the client was not killed.
func (m *member) alive() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.killed == 0
}
