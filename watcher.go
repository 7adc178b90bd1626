package ctxlock

import "sync"

// watcher is a function that is told of a lock's failed extensions and of its loss, one at a time, and off the engine's goroutines,
// because it is somebody else's code and may take its time.
type watcher struct {
	tell func(error)

	mu      sync.Mutex
	pending []error
	running bool          // a goroutine is calling tell, or about to; it ends when nothing is pending
	stopped bool          // nothing more is to be told
	idle    chan struct{} // closed when the goroutine ends; nil unless somebody waits for that
}

// mostPending is how many errors wait for a watcher that is slow. The oldest give way: the last one says the most.
const mostPending = 16

// hear takes an error, and returns at once.
func (w *watcher) hear(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	if len(w.pending) == mostPending {
		w.pending = w.pending[1:]
	}
	w.pending = append(w.pending, err)
	if !w.running {
		w.running = true
		go w.run()
	}
}

func (w *watcher) run() {
	done := false
	defer func() {
		if !done { // tell has ended its goroutine (runtime.Goexit): what comes next has another
			go w.run()
		}
	}()
	for {
		w.mu.Lock()
		if len(w.pending) == 0 {
			done, w.running = true, false
			if w.idle != nil {
				close(w.idle)
				w.idle = nil
			}
			w.mu.Unlock()
			return
		}
		err := w.pending[0]
		w.pending = w.pending[1:]
		w.mu.Unlock()
		w.tell(err)
	}
}

// stop has nothing more told, and returns when the call that is under way has returned.
func (w *watcher) stop() {
	w.mu.Lock()
	w.stopped, w.pending = true, nil
	if !w.running {
		w.mu.Unlock()
		return
	}
	if w.idle == nil {
		w.idle = make(chan struct{})
	}
	idle := w.idle
	w.mu.Unlock()
	<-idle
}
