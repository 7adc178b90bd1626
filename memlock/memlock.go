// Package memlock has lockers that keep their locks in memory, for unit tests of code that takes locks: no server, no
// network, nothing to install.
//
//	locker, err := memlock.New(ctxlock.LockerOption{})
//
// gives a locker with a server of its own. It is the same engine as on Valkey, with everything it promises; only the
// keys live elsewhere. Where a test needs several processes that compete, or wants to look at the keys or spoil them, it
// makes the server itself:
//
//	var server memlock.Server
//	here, err := server.NewLocker(ctxlock.LockerOption{})
//	there, err := server.NewLocker(ctxlock.LockerOption{})
//
// Keys run out by time.Now, so in a bubble of testing/synctest they run out in fake time, and a test that waits for a
// validity of an hour takes a millisecond. Make the locker inside the bubble and close it there (defer or t.Cleanup): it has a
// goroutine, and one that is left open ends the test with "blocked goroutines remain".
//
// Such lockers have no Valkey client: their Client method returns nil.
package memlock

import "github.com/ctxlock/ctxlock"

// New returns a locker on a server that nobody else has. Of the option it takes whatever is not about the connection
// to Valkey.
func New(option ctxlock.LockerOption) (ctxlock.Locker, error) {
	return new(Server).NewLocker(option)
}

// NewLocker returns another locker on this server, which stands for another process: it shares the keys with the other
// lockers and nothing else.
func (s *Server) NewLocker(option ctxlock.LockerOption) (ctxlock.Locker, error) {
	connection := s.Store()
	locker, err := ctxlock.NewLockerOnStore(connection, option)
	if err != nil {
		connection.Close()
		return nil, err
	}
	return locker, nil
}
