package lab

import (
	"sync"
	"time"
)

// maxHeld is how many bytes a lane holds before its reader waits and the sender feels it, like the buffers of a real line.
const maxHeld = 1 << 20

// chunk is something on its way through a lane: bytes, or an instruction for the writer.
type chunk struct {
	data  []byte
	due   time.Time // when it may leave
	do    instruction
	heals int // for stall
}

type instruction int

const (
	send   instruction = iota // data
	finish                    // no more will come
	cut                       // end the link
	stall                     // wait for the Heal after so many
)

// lane is a queue of chunks between one reader and one writer.
type lane struct {
	mu    sync.Mutex
	queue []chunk
	held  int           // bytes in queue
	some  chan struct{} // of one: something was put
	room  chan struct{} // of one: something was taken
}

func newLane() *lane {
	return &lane{some: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// put adds a chunk, and waits first while the lane is full. Once over is closed it may drop the chunk.
func (n *lane) put(c chunk, over <-chan struct{}) {
	for !n.tryPut(c) {
		select {
		case <-n.room:
		case <-over:
			return
		}
	}
	wake(n.some)
}

func (n *lane) tryPut(c chunk) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.held >= maxHeld {
		return false
	}
	n.held += len(c.data)
	// Small replies that came together leave together.
	if last := len(n.queue) - 1; last >= 0 && c.do == send && n.queue[last].do == send && n.queue[last].due.Equal(c.due) {
		n.queue[last].data = append(n.queue[last].data, c.data...)
		return true
	}
	n.queue = append(n.queue, c)
	return true
}

// take removes the next chunk, and waits for one; false: over is closed.
func (n *lane) take(over <-chan struct{}) (chunk, bool) {
	for {
		if c, ok := n.tryTake(); ok {
			wake(n.room)
			return c, true
		}
		select {
		case <-n.some:
		case <-over:
			return chunk{}, false
		}
	}
}

func (n *lane) tryTake() (chunk, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.queue) == 0 {
		return chunk{}, false
	}
	c := n.queue[0]
	n.queue = n.queue[1:]
	n.held -= len(c.data)
	return c, true
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
