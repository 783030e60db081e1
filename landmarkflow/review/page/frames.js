// The one place where frames are changed.

/**
 * LPS mm of the files as RAS mm of NiiVue, and back: they differ in the signs of x and y.
 * @param {number[]} point x, y, z
 * @returns {number[]}
 */
export function otherFrame([x, y, z]) {
  return [-x, -y, z];
}
