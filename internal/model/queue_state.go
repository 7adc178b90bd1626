package main

// processes is how many take part.
const processes = 3

const (
	nobody    = 0xff // the key's owner, if it is free
	unlimited = 0xff
	never     = 0xff // a timer that is not set
)

// terms are the durations that a protocol runs with, in ticks.
type terms struct {
	validity uint8 // how long a key lives
	margin   uint8 // and how much earlier trust in it ends
}

// window is for how long a lock is trusted, from when its request was sent. It is also the age from which on requests are of no use.
func (t terms) window() uint8 { return t.validity - t.margin }

// queueState is one state of the protocol of one key with its queue.
type queueState struct {
	faults uint8 // how many there may still be
	owner  uint8 // process, or nobody
	ttl    uint8 // by the server's clock
	marked bool  // it was left free on purpose, a moment ago
	stops  uint8 // how often processes may still be stopped
	// spent is how many keys of processes that are stopped or dead have run out since faults have
	// stopped, while one that could have had the lock waited. See liveness in rule.go.
	spent uint8
	line  [places]entry
	procs [processes]waiter
}

// places is how many entries the queue has room for. A process may have several, if claims arrive late; add panics if this is too few.
const places = 6

// entry is one of the queue's: the process, and how many claims ago it asked, or zero for no entry.
type entry uint8

func entryOf(p, ago uint8) entry { return entry(1 + p + ago*processes) }
func (e entry) process() uint8   { return uint8(e-1) % processes }
func (e entry) ago() uint8       { return uint8(e-1) / processes }

// phase is what a process is doing.
type phase uint8

const (
	idle     phase = iota // it wants nothing, and nothing of it is left anywhere
	waiting               // it claims, or stands in the queue
	holding               // its context is alive
	cleaning              // its context has ended, or it never had one, and it gives back what may be there
	over                  // it has given all back, as far as it knows
	crashed               // and what it left may still be there
)

// claim is the claim under way that is waited for.
type claim uint8

const (
	noClaim claim = iota
	asked         // its request is on its way
	gotKey        // its answer is: the key is yours now
	gotOwn        // its answer is: the key was yours already
)

// extension is the one under way.
type extension uint8

const (
	noExtension extension = iota
	extending             // its request is on its way
	extended              // its answer is: the key was yours, and has all its time again
)

// mostAgo is how many claims back words and entries are told apart (mostEpochs in queue.go, which is greater).
const mostAgo = 2

// waiter is what is known of one process, by itself, and of its messages.
type waiter struct {
	phase phase
	slow  uint8 // ticks that its clock is behind: 0 or 1
	// stopped: it does nothing. What it has sent arrives, and what is sent to it waits.
	stopped bool

	claim claim
	ttl   uint8 // what the key has left, as the answer has it
	sent  uint8 // how long ago the claim under way was sent
	// epochs is how long ago the last two claims were sent that words may name.
	epochs   [mostAgo]uint8
	answered bool // the last of them was
	// strays are requests of claims that are not waited for any more, by how many claims ago: a bit mask.
	strays uint8
	// words are those on their way that the lock was passed on, by how many claims ago: a bit mask.
	words uint8
	told  bool  // a message is on its way that tells it to look
	look  uint8 // when it looks again; never, if it relies on being told

	left    uint8 // how long it trusts its lock
	extend  extension
	extSent uint8 // how long ago the extension was sent
	free    bool  // the release leaves the key free: nobody has believed in the lock
	lied    bool  // it said that another has the lock, without having seen another's value
}

// waits tells that a process could have the lock, and has not.
func (w *waiter) waits() bool { return w.phase == waiting && !w.stopped }

// gone tells that nothing will be done with the lock if it is the process's.
func (w *waiter) gone() bool { return w.stopped || w.phase == crashed }

// trail tells what of a process is still about: in the queue, or on its way.
func (s *queueState) trail(p uint8) (ago [mostAgo + 1]bool, any bool) {
	w := &s.procs[p]
	for i := range ago {
		ago[i] = (w.strays|w.words)&(1<<i) != 0
	}
	for _, e := range s.line {
		if e != 0 && e.process() == p {
			ago[e.ago()] = true
		}
	}
	any = s.owner == p
	for i := range ago {
		any = any || ago[i]
	}
	return ago, any
}

// remove takes entry i out of the queue.
func (s *queueState) remove(i int) {
	copy(s.line[i:], s.line[i+1:])
	s.line[places-1] = 0
}

// insert puts an entry in at i, or at the end of the queue if i is beyond it.
func (s *queueState) insert(i int, e entry) {
	for j := 0; j < i; j++ {
		if s.line[j] == 0 {
			i = j
		}
	}
	if s.line[places-1] != 0 {
		panic("the queue has too little room in the model")
	}
	copy(s.line[i+1:], s.line[i:places-1])
	s.line[i] = e
}

// outdate makes another claim the last: what is about of the others is one claim further back.
func (s *queueState) outdate(p uint8) {
	w := &s.procs[p]
	w.epochs[1] = w.epochs[0]
	w.strays, w.words = further(w.strays), further(w.words)
	for i, e := range s.line {
		if e != 0 && e.process() == p {
			s.line[i] = entryOf(p, min(e.ago()+1, mostAgo))
		}
	}
}

// further moves each bit of a mask one up; the last bit stands for that and all that is further back.
func further(mask uint8) uint8 {
	return (mask<<1 | mask&(1<<mostAgo)) & (1<<(mostAgo+1) - 1)
}
