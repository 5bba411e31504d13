import Tensors
import Testing
import VideoIO

@Suite struct FrameRateTests {
  @Test(
    "A rate is an exact fraction",
    arguments: [
      ("16", 16, 1), ("23.976", 24000, 1001), ("29.97", 30000, 1001), ("24000/1001", 24000, 1001), ("12.5", 25, 2),
      ("50/2", 25, 1), ("1/10", 1, 10), ("24.000", 24, 1), ("15.015", 3003, 200),
    ])
  func aRateIsAnExactFraction(text: String, numerator: Int, denominator: Int) throws {
    let rate = try FrameRate(parsing: text)
    #expect(rate.numerator == numerator && rate.denominator == denominator, "\(rate)")
    #expect(try FrameRate(parsing: rate.description) == rate)
  }

  @Test(
    "What is no rate is refused",
    arguments: [
      "", "0", "-16", "x", "16fps", "1/0", "0/1", "1e3", "nan", "1//2", "1/2/3", "16.", ".5", "5000", "1/100000",
      "99999999999999999999", "1.0000001", " 16", "٣",
    ])
  func whatIsNoRateIsRefused(text: String) {
    #expect(throws: VideoIOError.self) { try FrameRate(parsing: text) }
  }
}

@Suite struct RGBFrameTests {
  @Test("The box filter keeps the mean and weights parts of pixels") func theBoxFilterKeepsTheMeanAnd() {
    let frame = RGBFrame(width: 3, height: 2, pixels: [0, 90, 180, 0, 0, 0].flatMap { [$0, $0, $0] })
    let small = frame.scaledDown(by: 0.5)
    #expect(small.width == 2 && small.height == 1)
    // Columns weigh 2/3, 1/3 and 1/3, 2/3; rows one half.
    #expect(small.pixels == [15, 15, 15, 75, 75, 75])
    #expect(frame.scaledDown(by: 1) == frame)
    #expect(frame.scaledDown(by: 0.01).width == 1)
  }

  @Test("Enlarging repeats pixels") func enlargingRepeatsPixels() {
    let frame = RGBFrame(width: 2, height: 1, pixels: [1, 2, 3, 4, 5, 6]).enlarged(by: 2)
    #expect(frame.width == 4 && frame.height == 2)
    #expect(frame.pixels == [1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6, 1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6])
  }
}

@Suite struct ContactSheetTests {
  @Test("A sheet has its cells where they belong") func aSheetHasItsCellsWhereThey() throws {
    var sheet = try ContactSheet(columns: 3, gap: 2, background: 9)
    for level in 1...5 as ClosedRange<UInt8> {
      sheet.add(RGBFrame(width: 8, height: 6, red: level * 10, green: 0, blue: 0))
    }
    let picture = try sheet.picture()
    #expect(picture.width == 3 * 8 + 4 * 2 && picture.height == 2 * 6 + 3 * 2)
    #expect(picture[0, 0] == (9, 9, 9))
    #expect(picture[2, 2] == (10, 0, 0))
    #expect(picture[7, 9] == (10, 0, 0))
    #expect(picture[2, 10] == (9, 9, 9))
    #expect(picture[2, 12] == (20, 0, 0))
    #expect(picture[10, 2] == (40, 0, 0))
    #expect(picture[10, 12] == (50, 0, 0))
    #expect(picture[10, 22] == (9, 9, 9))
  }

  @Test("Cells shrink, and columns are no more than the frames") func cellsShrinkAndColumnsAreNoMore() throws {
    var sheet = try ContactSheet(columns: 8, scale: 0.25, gap: 0)
    for frame in movingFrames(0..<3) { sheet.add(frame) }
    let picture = try sheet.picture()
    #expect(picture.width == 48 && picture.height == 12)
  }

  @Test("A number is stamped into the corner and fits any frame") func aNumberIsStampedIntoTheCorner() {
    var frame = RGBFrame(width: 40, height: 30, red: 100, green: 100, blue: 100)
    frame.stamp(17)
    let dots = (0..<7).map { y in
      String((0..<9).map { x in frame[y * 2, x * 2].red == 240 ? "#" : frame[y * 2, x * 2].red == 0 ? "." : "?" })
    }
    #expect(
      dots == [".........", "..#..###.", ".##....#.", "..#...#..", "..#...#..", ".###..#..", "........."], "\(dots)")
    #expect(frame[14, 0].red == 100 && frame[0, 18].red == 100)
    var tiny = RGBFrame(width: 3, height: 2, red: 100, green: 100, blue: 100)
    tiny.stamp(123_456)
    #expect(tiny.pixels.allSatisfy { $0 == 0 })
  }

  @Test("An empty sheet and impossible settings are refused") func anEmptySheetAndImpossibleSettingsAre() throws {
    let empty = try ContactSheet()
    #expect(throws: VideoIOError.self) { try empty.picture() }
    #expect(throws: VideoIOError.self) { try ContactSheet(columns: 0) }
    #expect(throws: VideoIOError.self) { try ContactSheet(scale: 0) }
    #expect(throws: VideoIOError.self) { try ContactSheet(scale: 1.5) }
    #expect(throws: VideoIOError.self) { try ContactSheet(scale: .nan) }
  }
}

@Suite struct FrameSelectionTests {
  private func chosen(_ selection: FrameSelection, of count: Int = 20) -> [Int] {
    (0..<count).filter(selection.contains)
  }

  @Test("Numbers and ranges select frames, and steps thin them out") func numbersAndRangesSelectFramesAndSteps() throws
  {
    #expect(chosen(.all, of: 4) == [0, 1, 2, 3])
    #expect(try chosen(FrameSelection(list: "7")) == [7])
    #expect(try chosen(FrameSelection(list: "5-7,0,6-9,18-")) == [0, 5, 6, 7, 8, 9, 18, 19])
    #expect(try chosen(FrameSelection(step: 6)) == [0, 6, 12, 18])
    #expect(try chosen(FrameSelection(list: "3-9", step: 3)) == [3, 6, 9])
    #expect(try chosen(FrameSelection(list: "0,10,12-15", step: 2)) == [0, 12, 14])
    #expect(try FrameSelection(list: "5-7,0").last == 7)
    #expect(try FrameSelection(list: "5,17-").last == nil)
    #expect(try FrameSelection(list: "5,17-").lastNamed == 17)
  }

  @Test(
    "What is no list is refused",
    arguments: ["", ",", "1,", "-3", "3-1", "1-2-3", "a", "1.5", "1 2", "99999999999999999999", "-"])
  func whatIsNoListIsRefused(list: String) {
    #expect(throws: VideoIOError.self) { try FrameSelection(list: list) }
  }

  @Test("A spread selection has the wanted number of frames and both ends") func aSpreadSelectionHasTheWantedNumber() {
    for (wanted, count) in [(24, 81), (24, 24), (24, 25), (2, 9), (5, 1000), (24, 3), (1, 9)] {
      let numbers = chosen(.spread(wanted, over: count), of: count)
      #expect(numbers.count == min(wanted, count), "\(wanted) of \(count): \(numbers)")
      #expect(numbers.first == 0)
      if wanted > 1 { #expect(numbers.last == count - 1) }
    }
  }
}

@Suite struct FalseColourTests {
  @Test("Zero is grey, signs have their colours, NaN stands out") func zeroIsGreySignsHaveTheirColours() {
    #expect(FalseColour.colour(0) == (221, 221, 221))
    #expect(FalseColour.colour(3) == (180, 4, 38))
    #expect(FalseColour.colour(-3) == (59, 76, 192))
    #expect(FalseColour.colour(100) == FalseColour.colour(3))
    #expect(FalseColour.colour(.nan) == (0, 255, 0))
    #expect(FalseColour.colour(.infinity) == (0, 255, 0))
  }

  @Test("Sixteen channels make four rows of four tiles") func sixteenChannelsMakeFourRowsOfFour() throws {
    var values = [Float](repeating: 0, count: 2 * 16 * 3 * 5)
    // Frame 1, channel 6 (second row, third column), row 2, column 4.
    values[(16 + 6) * 15 + 2 * 5 + 4] = 3
    let pictures = try FalseColour.tiles(Tensor(values, shape: [2, 16, 3, 5]), zoom: 2)
    #expect(pictures.count == 2)
    #expect(pictures[0].width == 4 * 10 + 5 && pictures[0].height == 4 * 6 + 5)
    #expect(pictures[0][1, 1] == (221, 221, 221))
    #expect(pictures[0][0, 0] == (0, 0, 0))
    #expect(pictures[1][1 + 7 + 5, 1 + 2 * 11 + 9] == (180, 4, 38))
    #expect(pictures[1][1 + 7 + 5, 1 + 2 * 11 + 7] == (221, 221, 221))
  }

  @Test("Another shape is refused") func anotherShapeIsRefused() {
    #expect(throws: VideoIOError.self) {
      try FalseColour.tiles(Tensor([Float](repeating: 0, count: 6), shape: [2, 3]))
    }
  }

  @Test("A picture covers another size without distortion: plain stays plain, edges stay where they are, sides are cut")
  func covering() {
    let plain = RGBFrame(width: 37, height: 21, red: 200, green: 3, blue: 90)
    for (width, height) in [(16, 16), (64, 48), (5, 80)] {
      #expect(
        plain.covering(width: width, height: height)
          == RGBFrame(width: width, height: height, red: 200, green: 3, blue: 90))
    }
    #expect(plain.covering(width: 37, height: 21) == plain)
    // Left half black, right half white, 80 x 20; of it the middle 20 columns are kept.
    let pixels = (0..<20).flatMap { _ in (0..<80).flatMap { [UInt8](repeating: $0 < 40 ? 0 : 255, count: 3) } }
    let halves = RGBFrame(width: 80, height: 20, pixels: pixels)
    for size in [10, 20, 40] {
      let square = halves.covering(width: size, height: size)
      for row in [0, size - 1] {
        #expect(square[row, 0].red == 0)
        #expect(square[row, size - 1].red == 255)
        #expect(Int(square[row, size / 2 - 1].red) + Int(square[row, size / 2].red) == 255)
      }
    }
  }
}
