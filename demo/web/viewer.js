// Plays at once. `autoplay` would let the browser load the playlist by itself before marea.js has taken over.

document
  .querySelector("video")
  ?.play()
  .catch(() => {
    // Not allowed here: the viewer has to press play.
  });
