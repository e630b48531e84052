package stream

import "sync"

// BufferSize is the size of the chunks that pumps read and write.
const BufferSize = 16 << 10

// Buffer is a chunk from the pool. A connection holds one only while it has
// bytes, so that an idle one costs none.
type Buffer [BufferSize]byte

var buffers = sync.Pool{New: func() any { return new(Buffer) }}

// GetBuffer takes a buffer from the pool; its content is undefined.
func GetBuffer() *Buffer { return buffers.Get().(*Buffer) }

// PutBuffer gives b back. The caller keeps no slice of it.
func PutBuffer(b *Buffer) { buffers.Put(b) }
